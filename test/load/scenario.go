package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valetkey/valetkey/internal/person"
	"github.com/valetkey/valetkey/oauth"
)

// scenario is one kind of load and its floor.
type scenario struct {
	name string
	// prepare obtains what the requests need, and returns the request.
	prepare func(context.Context, *process) (request, error)
	floor   func(*process) request
}

// request sends one request, or one flow; worker is the number of the caller.
type request func(ctx context.Context, worker int) error

func scenarios() []scenario {
	return []scenario{
		{"client_credentials", prepareClientCredentials, func(p *process) request {
			return p.post("/sign", url.Values{"grant_type": {"client_credentials"}})
		}},
		{"code_flow", prepareCodeFlow, func(p *process) request {
			redeem := p.post("/write", url.Values{"grant_type": {"authorization_code"}, "code": {"x"}})
			return func(ctx context.Context, worker int) error {
				if _, err := p.send(ctx, http.MethodGet, "/redirect?state=x", nil, nil); err != nil {
					return err
				}
				return redeem(ctx, worker)
			}
		}},
		{"refresh", prepareRefresh, func(p *process) request {
			return p.post("/write", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"x"}})
		}},
		{"stored_refresh", prepareStoredRefresh, func(p *process) request {
			return p.post("/write", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"x"}})
		}},
		{"introspection", prepareIntrospection, func(p *process) request {
			var next atomic.Int64
			return func(ctx context.Context, _ int) error {
				_, err := p.send(ctx, http.MethodPost, "/lookup", url.Values{"token": {storedToken(int(next.Add(1)))}}, nil)
				return err
			}
		}},
		{"discovery", static(discoveryPath), func(p *process) request { return p.get(discoveryPath) }},
		{"jwks", static(jwksPath), func(p *process) request { return p.get(jwksPath) }},
	}
}

// The documents that the floor serves a copy of.
const (
	discoveryPath = "/.well-known/openid-configuration"
	jwksPath      = "/jwks"
)

var transport = &http.Transport{MaxIdleConns: 512, MaxIdleConnsPerHost: 512, DisableCompression: true}

// send sends one request with the client's credentials, and returns the body, or the
// Location of a redirect.
func (p *process) send(ctx context.Context, method, path string, form url.Values, cookies []*http.Cookie) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, p.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.SetBasicAuth(clientID, clientSecret)
	}
	for _, c := range cookies {
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
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s %s: %s: %s", method, path, response.Status, body)
	}
	return body, nil
}

func (p *process) post(path string, form url.Values) request {
	return func(ctx context.Context, _ int) error {
		_, err := p.send(ctx, http.MethodPost, path, form, nil)
		return err
	}
}

func (p *process) get(path string) request {
	return func(ctx context.Context, _ int) error {
		_, err := p.send(ctx, http.MethodGet, path, nil, nil)
		return err
	}
}

func static(path string) func(context.Context, *process) (request, error) {
	return func(_ context.Context, p *process) (request, error) { return p.get(path), nil }
}

func prepareClientCredentials(_ context.Context, p *process) (request, error) {
	return p.post("/token", url.Values{"grant_type": {"client_credentials"}, "scope": {apiScope}}), nil
}

// signedIn returns the cookies of a browser whose user has signed in and consented.
func signedIn(p *process) ([]*http.Cookie, error) {
	user := person.New(username, password)
	address, _ := authorizationURL(p, "first")
	if _, err := user.Visit(address, redirectURI); err != nil {
		return nil, err
	}
	return user.Cookies(p.url), nil
}

func authorizationURL(p *process, state string) (address, verifier string) {
	verifier = oauth.NewCodeVerifier()
	query := url.Values{
		"client_id": {clientID}, "response_type": {"code"}, "redirect_uri": {redirectURI}, "scope": {scopes.String()},
		"state": {state}, "nonce": {"n"}, "code_challenge": {oauth.S256Challenge(verifier)}, "code_challenge_method": {"S256"},
	}
	return p.url + "/authorize?" + query.Encode(), verifier
}

type tokens struct {
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
	IDToken      string `json:"id_token"`
}

// codeFlow runs the whole flow with an existing session.
func codeFlow(ctx context.Context, p *process, cookies []*http.Cookie) (tokens, error) {
	var t tokens
	address, verifier := authorizationURL(p, "s")
	location, err := p.send(ctx, http.MethodGet, strings.TrimPrefix(address, p.url), nil, cookies)
	if err != nil {
		return t, err
	}
	callback, err := url.Parse(string(location))
	if err != nil || callback.Query().Get("code") == "" {
		return t, fmt.Errorf("the response has no code: %s", location)
	}
	body, err := p.send(ctx, http.MethodPost, "/token", url.Values{
		"grant_type": {"authorization_code"}, "code": {callback.Query().Get("code")},
		"redirect_uri": {redirectURI}, "code_verifier": {verifier},
	}, nil)
	if err != nil {
		return t, err
	}
	err = json.NewDecoder(bytes.NewReader(body)).Decode(&t)
	if err == nil && (t.AccessToken == "" || t.RefreshToken == "" || t.IDToken == "") {
		err = errors.New("a token is missing")
	}
	return t, err
}

func prepareCodeFlow(_ context.Context, p *process) (request, error) {
	cookies, err := signedIn(p)
	return func(ctx context.Context, _ int) error {
		_, err := codeFlow(ctx, p, cookies)
		return err
	}, err
}

// maxWorkers is the number of workers for which tokens are prepared.
const maxWorkers = 256

func prepareRefresh(ctx context.Context, p *process) (request, error) {
	cookies, err := signedIn(p)
	if err != nil {
		return nil, err
	}
	current := make([]string, maxWorkers)
	for i := range current {
		t, err := codeFlow(ctx, p, cookies)
		if err != nil {
			return nil, err
		}
		current[i] = t.RefreshToken
	}
	return func(ctx context.Context, worker int) error {
		body, err := p.send(ctx, http.MethodPost, "/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {current[worker]}}, nil)
		if err != nil {
			return err
		}
		var t tokens
		if err := json.Unmarshal(body, &t); err != nil {
			return err
		}
		current[worker] = t.RefreshToken
		return nil
	}, nil
}

func prepareIntrospection(ctx context.Context, p *process) (request, error) {
	cookies, err := signedIn(p)
	if err != nil {
		return nil, err
	}
	forms := make([]url.Values, maxWorkers)
	for i := range forms {
		t, err := codeFlow(ctx, p, cookies)
		if err != nil {
			return nil, err
		}
		forms[i] = url.Values{"token": {t.AccessToken}}
	}
	var next atomic.Int64
	return func(ctx context.Context, _ int) error {
		body, err := p.send(ctx, http.MethodPost, "/introspect", forms[next.Add(1)%maxWorkers], nil)
		if err == nil && !bytes.Contains(body, []byte(`"active":true`)) {
			err = fmt.Errorf("the token is not active: %s", body)
		}
		return err
	}, nil
}

// figures are what one scenario cost.
type figures struct {
	CPU        float64 `json:"cpu_seconds_per_1000"`
	Throughput float64 `json:"requests_per_second"`
	P50        float64 `json:"p50_ms"`
	P99        float64 `json:"p99_ms"`
}

type result struct {
	Scenario string  `json:"scenario"`
	Server   figures `json:"server"`
	Floor    figures `json:"floor"`
	Ratio    float64 `json:"ratio"`
	Limit    float64 `json:"limit"`
}

func (r result) String() string {
	verdict := "within"
	if r.Ratio > r.Limit {
		verdict = "ABOVE"
	}
	return fmt.Sprintf("%-19s %6.0f/s  p50 %5.2f ms  p99 %6.2f ms  CPU %.3f s per 1000 (floor %.3f)  ratio %.2f, %s %.2f",
		r.Scenario, r.Server.Throughput, r.Server.P50, r.Server.P99, r.Server.CPU, r.Floor.CPU, r.Ratio, verdict, r.Limit)
}

// measure sends the requests, after a tenth of them to warm up.
func measure(ctx context.Context, p *process, o options, send request) (figures, error) {
	if _, err := flood(ctx, o.Requests/10, o.Concurrency, send); err != nil {
		return figures{}, err
	}
	before, err := p.cpu()
	if err != nil {
		return figures{}, err
	}
	began := time.Now()
	times, err := flood(ctx, o.Requests, o.Concurrency, send)
	if err != nil {
		return figures{}, err
	}
	took := time.Since(began)
	after, err := p.cpu()
	if err != nil {
		return figures{}, err
	}
	slices.Sort(times)
	milliseconds := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	return figures{
		CPU:        (after - before).Seconds() / float64(o.Requests) * 1000,
		Throughput: float64(o.Requests) / took.Seconds(),
		P50:        milliseconds(times[len(times)/2]),
		P99:        milliseconds(times[len(times)*99/100]),
	}, nil
}

func flood(ctx context.Context, requests, concurrency int, send request) ([]time.Duration, error) {
	var left atomic.Int64
	left.Store(int64(requests))
	times := make([][]time.Duration, concurrency)
	failures := make(chan error, concurrency)
	var workers sync.WaitGroup
	for worker := range concurrency {
		workers.Go(func() {
			for left.Add(-1) >= 0 {
				began := time.Now()
				if err := send(ctx, worker); err != nil {
					failures <- err
					return
				}
				times[worker] = append(times[worker], time.Since(began))
			}
		})
	}
	workers.Wait()
	select {
	case err := <-failures:
		return nil, err
	default:
		return slices.Concat(times...), nil
	}
}
