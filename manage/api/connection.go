package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// Connection calls the management API of a server. It is safe for concurrent use if HTTP is.
type Connection struct {
	// Issuer is the issuer of the server. Base is the URL of the API; "" means Path below the issuer.
	Issuer, Base string
	// HTTP sends the requests, and adds the access token to them, such as the client of package
	// oauth/client. It must not follow redirects with the token to another host.
	HTTP *http.Client
}

// Change says how a request changes something.
type Change struct {
	// DryRun checks the request and returns its result, and changes nothing.
	DryRun bool
	// IdempotencyKey makes a repeated request return the response of the first one; "" for none. It
	// should be random. The server keeps it for a day.
	IdempotencyKey string
}

// List selects a page of a list.
type List struct {
	// Cursor is Page.Next of the previous page; "" for the first one.
	Cursor string
	// Limit is how many entries the page has at most; 0 is the server's default.
	Limit int
	// Filter are further query parameters of the operation.
	Filter url.Values
}

// Problem is an error response (RFC 9457).
type Problem struct {
	Status int    `json:"status"`
	Title  string `json:"title"`
	Detail string `json:"detail"`
	Errors []struct {
		Location string `json:"location"`
		Message  string `json:"message"`
	} `json:"errors"`
}

func (p *Problem) Error() string {
	text := p.Detail
	if text == "" {
		text = p.Title
	}
	for _, e := range p.Errors {
		text += "; " + strings.TrimPrefix(e.Location+": ", ": ") + e.Message
	}
	return text
}

// StatusOf returns the HTTP status of an error of this package; 0 if there was no response.
func StatusOf(err error) int {
	if p, ok := errors.AsType[*Problem](err); ok {
		return p.Status
	}
	return 0
}

// maxResponse limits a response, in bytes.
const maxResponse = 16 << 20

// request is a request to the API. in and out are nil for no body.
type request struct {
	method, path string
	query        url.Values
	ifMatch      string
	change       Change
	in, out      any
}

// URL returns the URL of the API.
func (c *Connection) URL() string {
	if c.Base != "" {
		return c.Base
	}
	return c.Issuer + Path
}

// do sends a request and returns the ETag of the response. The error is a *Problem if the server
// refused the request.
func (c *Connection) do(ctx context.Context, r request) (etag string, err error) {
	if r.change.DryRun {
		if r.query == nil {
			r.query = url.Values{}
		}
		r.query.Set("dry_run", "true")
	}
	target := c.URL() + r.path
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	var body io.Reader
	if r.in != nil {
		encoded, err := json.Marshal(r.in)
		if err != nil {
			return "", fmt.Errorf("encode the request: %w", err)
		}
		body = bytes.NewReader(encoded)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, body)
	if err != nil {
		return "", fmt.Errorf("call the management API: %w", err)
	}
	req.Header.Set("Accept", "application/json")
	if r.in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if r.ifMatch != "" {
		req.Header.Set("If-Match", r.ifMatch)
	}
	if r.change.IdempotencyKey != "" {
		req.Header.Set("Idempotency-Key", strconv.Quote(r.change.IdempotencyKey))
	}
	response, err := c.HTTP.Do(req)
	if err != nil {
		return "", fmt.Errorf("call the management API: %w", err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(io.LimitReader(response.Body, maxResponse+1))
	if err != nil {
		return "", fmt.Errorf("read the response of the management API: %w", err)
	}
	if len(content) > maxResponse {
		return "", errors.New("the response of the management API is too long")
	}
	if response.StatusCode >= http.StatusMultipleChoices {
		problem := &Problem{}
		if json.Unmarshal(content, problem) != nil || problem.Status == 0 {
			problem = &Problem{Detail: "the server responded with " + response.Status}
		}
		problem.Status = response.StatusCode
		return "", problem
	}
	if r.out != nil {
		if err := json.Unmarshal(content, r.out); err != nil {
			return "", fmt.Errorf("read the response of the management API: %w", err)
		}
	}
	return response.Header.Get("ETag"), nil
}

func (l *List) query() url.Values {
	query := url.Values{}
	for name, values := range l.Filter {
		query[name] = values
	}
	if l.Cursor != "" {
		query.Set("cursor", l.Cursor)
	}
	if l.Limit > 0 {
		query.Set("limit", strconv.Itoa(l.Limit))
	}
	return query
}

// get is do for a GET request with a body of type T.
func get[T any](ctx context.Context, c *Connection, path string, query url.Values) (*T, string, error) {
	out := new(T)
	etag, err := c.do(ctx, request{method: http.MethodGet, path: path, query: query, out: out})
	if err != nil {
		return nil, "", err
	}
	return out, etag, nil
}

// All iterates over all pages of a list. After an error it stops.
func All[P, T any](ctx context.Context, list List, page func(context.Context, List) (*P, error), entries func(*P) ([]T, string)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for {
			p, err := page(ctx, list)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			found, next := entries(p)
			for _, entry := range found {
				if !yield(entry, nil) {
					return
				}
			}
			if next == "" {
				return
			}
			list.Cursor = next
		}
	}
}
