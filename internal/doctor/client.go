package doctor

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/valetkey/valetkey/internal/probe"
)

const (
	requestTime  = 5 * time.Second
	maxBodyBytes = 1 << 20
)

// client sends requests. It follows no redirect, because redirects are what some checks look for.
type client struct {
	outside *http.Client // to the issuer's URL, also if its certificate is not valid
	direct  *http.Client // to the server itself
}

func newClient(o Options, issuer string) *client {
	dialer := &net.Dialer{Timeout: requestTime}
	transport := func(dial func(context.Context, string, string) (net.Conn, error)) *http.Client {
		return &http.Client{
			Timeout: requestTime,
			Transport: &http.Transport{
				DialContext: dial,
				// checkTLS verifies the certificate and reports what is wrong with it. No secret is sent.
				TLSClientConfig:    &tls.Config{InsecureSkipVerify: true},
				ForceAttemptHTTP2:  true,
				DisableCompression: true,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	return &client{
		outside: transport(func(ctx context.Context, network, address string) (net.Conn, error) {
			if o.ConnectTo != "" && address == issuer {
				address = o.ConnectTo
			}
			return dialer.DialContext(ctx, network, address)
		}),
		direct: transport(dialer.DialContext),
	}
}

func (c *client) close() {
	c.outside.CloseIdleConnections()
	c.direct.CloseIdleConnections()
}

// response is a response with its body.
type response struct {
	status int
	header http.Header
	body   []byte
	took   time.Duration
}

func (r *response) redirects() bool { return r.status >= 300 && r.status < 400 }

// do sends a request. Header fields are pairs of name and value.
func do(ctx context.Context, c *http.Client, method, url string, body []byte, header ...string) (*response, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			request.Host = header[i+1]
			continue
		}
		request.Header.Set(header[i], header[i+1])
	}
	began := time.Now()
	received, err := c.Do(request)
	if err != nil {
		return nil, bare(err)
	}
	defer received.Body.Close()
	r := &response{status: received.StatusCode, header: received.Header, took: time.Since(began)}
	if r.body, err = io.ReadAll(io.LimitReader(received.Body, maxBodyBytes)); err != nil {
		return nil, fmt.Errorf("read the response: %w", bare(err))
	}
	return r, nil
}

// bare removes the URL from an error, which the caller names.
func bare(err error) error {
	type urlError interface{ Unwrap() error }
	var operation *net.OpError
	if errors.As(err, &operation) {
		return operation
	}
	if inner, ok := err.(urlError); ok && inner.Unwrap() != nil {
		return inner.Unwrap()
	}
	return err
}

// get requests a URL from outside.
func (r *run) get(ctx context.Context, url string, header ...string) (*response, error) {
	return do(ctx, r.client.outside, http.MethodGet, url, nil, header...)
}

// errNoAnswer is a response that is not an answer to a question.
var errNoAnswer = errors.New("the response is not an answer")

// ask sends a question through the proxy, to a path below the issuer.
func (r *run) ask(ctx context.Context, q probe.Question, method, path string, body []byte, header ...string) (*probe.Answer, *response, error) {
	return r.askAt(ctx, r.client.outside, r.options.Issuer, q, method, path, body, header...)
}

func (r *run) askAt(ctx context.Context, c *http.Client, base string, q probe.Question, method, path string, body []byte, header ...string) (*probe.Answer, *response, error) {
	q.Time = time.Now().Add(r.offset)
	header = append(header, probe.Header, r.key.Seal(q))
	received, err := do(ctx, c, method, base+path, body, header...)
	if err != nil {
		return nil, nil, err
	}
	if received.header.Get(probe.Header) != probe.AnswerMark {
		return nil, received, errNoAnswer
	}
	var a probe.Answer
	if err := json.Unmarshal(received.body, &a); err != nil {
		return nil, received, fmt.Errorf("read the answer: %w", err)
	}
	return &a, received, nil
}
