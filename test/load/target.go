package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

// target receives requests: a floor, or all nodes of a server.
type target struct {
	url    string // the issuer
	nodes  []*process
	next   atomic.Uint64
	stored *refreshTokens
	disk   *disk // nil if it is not measured
	// provider is the URL of the OpenID Provider that users of the server sign in with.
	provider string
}

func (t *target) stop() {
	for _, node := range t.nodes {
		node.stop()
	}
}

// cpu returns the CPU time of all nodes so far.
func (t *target) cpu() (sum time.Duration, err error) {
	for _, node := range t.nodes {
		used, err := node.cpu()
		if err != nil {
			return 0, err
		}
		sum += used
	}
	return sum, nil
}

// settle waits until the nodes have done what they do after their first start, such as creating the
// next keys, so that no scenario includes it.
func (t *target) settle(ctx context.Context) error {
	const interval, most = 250 * time.Millisecond, 20 * time.Second
	for end := time.Now().Add(most); time.Now().Before(end) && ctx.Err() == nil; {
		before, err := t.cpu()
		if err != nil {
			return err
		}
		time.Sleep(interval)
		after, err := t.cpu()
		if err != nil {
			return err
		}
		if after-before < interval/10 {
			break
		}
	}
	return ctx.Err()
}

// memory returns the memory of the node that uses most.
func (t *target) memory() (most memory) {
	for _, node := range t.nodes {
		if m := node.memory(); m.Resident > most.Resident {
			most = m
		}
	}
	return most
}

var transport = &http.Transport{MaxIdleConns: 512, MaxIdleConnsPerHost: 512, DisableCompression: true}

// message is a request to a target.
type message struct {
	method, path string
	form         url.Values
	cookies      []*http.Cookie
	client       string // who authenticates with the secret; clientID if empty
	anonymous    bool   // without the secret
	proof        string // a DPoP proof
	page         bool   // the form of a page is submitted
	from         string // the address in X-Forwarded-For; "" for none
}

// send sends a message to one node after the other, and returns the body, or the Location of a
// redirect.
func (t *target) send(ctx context.Context, m message) ([]byte, error) {
	node := t.nodes[t.next.Add(1)%uint64(len(t.nodes))]
	r, err := http.NewRequestWithContext(ctx, m.method, node.url+m.path, strings.NewReader(m.form.Encode()))
	if err != nil {
		return nil, err
	}
	r.Host = strings.TrimPrefix(t.url, "http://")
	if m.method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if m.page {
			r.Header.Set("Origin", t.url)
			r.Header.Set("Sec-Fetch-Site", "same-origin")
		} else if !m.anonymous {
			r.SetBasicAuth(cmp.Or(m.client, clientID), clientSecret)
		}
	}
	if m.proof != "" {
		r.Header.Set("DPoP", m.proof)
	}
	if m.from != "" {
		r.Header.Set("X-Forwarded-For", m.from)
	}
	for _, c := range m.cookies {
		r.AddCookie(c)
	}
	response, err := transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if location := response.Header.Get("Location"); location != "" {
		return []byte(location), nil
	}
	if response.StatusCode != http.StatusOK && response.StatusCode != http.StatusCreated {
		return nil, fmt.Errorf("%s %s: %s: %.200s", m.method, m.path, response.Status, body)
	}
	return body, nil
}

// repeated returns a request that always sends the same message.
func (t *target) repeated(m message) request {
	return func(ctx context.Context, _ int) error {
		_, err := t.send(ctx, m)
		return err
	}
}

func (t *target) post(path string, form url.Values) request {
	return t.repeated(message{method: http.MethodPost, path: path, form: form})
}
