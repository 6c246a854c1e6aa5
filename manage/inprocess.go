package manage

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/netip"

	"github.com/valetkey/valetkey/manage/api"
)

// Caller is a user whom other code in this process has authenticated.
type Caller struct {
	UserID  string
	Address netip.Addr
}

// callerKey is the key of a Caller in a context. No other package can set it.
type callerKey struct{}

// Connect returns a connection that calls the API from within the process, as a user who has signed
// in. The user gets the permissions of their role at the time of each request.
func (a *API) Connect(caller Caller) *api.Connection {
	return &api.Connection{Issuer: a.config.Issuer, HTTP: &http.Client{Transport: inProcess{a, caller}}}
}

type inProcess struct {
	api    *API
	caller Caller
}

// RoundTrip implements http.RoundTripper. Only requests to the API are served, and they have the
// deadline of the request's context.
func (t inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	body := r.Body
	if body == nil {
		body = http.NoBody
	}
	defer body.Close()
	inner := r.Clone(context.WithValue(r.Context(), callerKey{}, t.caller))
	inner.Body, inner.RequestURI = body, r.URL.RequestURI()
	inner.Header.Del("Authorization")
	w := &memoryResponse{header: http.Header{}}
	t.api.ServeHTTP(w, inner)
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return &http.Response{
		Status: http.StatusText(w.status), StatusCode: w.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.header, Body: io.NopCloser(&w.body), ContentLength: int64(w.body.Len()), Request: r,
	}, nil
}

// memoryResponse keeps a response in memory.
type memoryResponse struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *memoryResponse) Header() http.Header { return w.header }

func (w *memoryResponse) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

func (w *memoryResponse) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(p)
}
