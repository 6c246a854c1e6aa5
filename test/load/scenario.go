package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync/atomic"

	"github.com/valetkey/valetkey/internal/person"
	"github.com/valetkey/valetkey/oauth"
)

// scenario is one kind of load and its floor.
type scenario struct {
	name  string
	title string // in tables
	// prepare obtains what the requests need, and returns the request.
	prepare func(context.Context, *target, keys) (request, error)
	floor   func(*target, keys) request
	limits  limits
	most    int // requests of a measurement that signs users in; 0 for all others
	// observed is the limit of -observed; 0: maxObserved.
	observed float64
}

// request sends one request, or one flow; worker is the number of the caller.
type request func(ctx context.Context, worker int) error

// bearerScenarios need no key of the client.
func bearerScenarios() []scenario {
	return []scenario{
		{name: "client_credentials", title: "client_credentials", prepare: prepareClientCredentials(clientID), floor: floorClientCredentials(es256), limits: limits{
			1.1, 1.2, "one signature, as the floor; the rest is the client's credentials, scope and JSON"}},
		{name: "client_credentials_eddsa", title: "client_credentials, EdDSA", prepare: prepareClientCredentials(clientEdDSA), floor: floorClientCredentials(edDSA), limits: limits{
			1.3, 1.4, "like client_credentials, but the signature is cheaper and the rest is not"}},
		{name: "code_flow", title: "code flow", prepare: prepareCodeFlow(clientID), floor: floorCodeFlow(es256), limits: limits{
			1.65, 2, "two signatures and one commit, as the floor; it also reads the session and the grant, and verifies the request"}},
		{name: "code_flow_eddsa", title: "code flow, EdDSA", prepare: prepareCodeFlow(clientEdDSA), floor: floorCodeFlow(edDSA), limits: limits{
			1.9, 2.3, "like code_flow, but the signatures are cheaper and the rest is not"}},
		{name: "refresh", title: "refresh", prepare: prepareRefresh, floor: floorRefresh, limits: limits{
			1.2, 1.45, "two signatures and one commit, as the floor; it also reads the token and its grant"}},
		{name: "stored_refresh", title: "refresh, token chosen at random", prepare: prepareStoredRefresh, floor: floorRefresh, limits: limits{
			1.5, 1.6, "like refresh; the tokens are read at random among all that are stored"}},
		{name: "introspection", title: "introspection", prepare: prepareIntrospection, floor: func(t *target, _ keys) request {
			var next atomic.Int64
			return func(ctx context.Context, _ int) error {
				_, err := t.send(ctx, message{method: http.MethodPost, path: floorLookup, form: url.Values{"token": {storedToken(int(next.Add(1)))}}})
				return err
			}
		}, limits: limits{1.3, 1.4, "the floor reads one row; this reads whether the authorization still exists"}},
		{name: "discovery", title: "discovery", prepare: static(discoveryPath), floor: floorStatic(discoveryPath), limits: limits{
			1.2, 1.4, "a copy of a document, as the floor; routing and headers are a few microseconds"}},
		{name: "jwks", title: "JWKS", prepare: static(jwksPath), floor: floorStatic(jwksPath), limits: limits{
			1.2, 1.4, "a copy of a document, as the floor; routing and headers are a few microseconds"}},
	}
}

// scenarios returns all scenarios.
func scenarios() []scenario {
	return slices.Concat(bearerScenarios(), boundScenarios(), signInScenarios())
}

// The documents that the floor serves a copy of.
const (
	discoveryPath = "/.well-known/openid-configuration"
	jwksPath      = "/jwks"
)

func static(path string) func(context.Context, *target, keys) (request, error) {
	return func(_ context.Context, t *target, _ keys) (request, error) {
		return t.repeated(message{method: http.MethodGet, path: path}), nil
	}
}

func floorStatic(path string) func(*target, keys) request {
	return func(t *target, _ keys) request { return t.repeated(message{method: http.MethodGet, path: path}) }
}

func floorClientCredentials(algorithm string) func(*target, keys) request {
	return func(t *target, _ keys) request {
		return t.post(floorSign, url.Values{"grant_type": {"client_credentials"}, algorithmParam: {algorithm}})
	}
}

func floorRefresh(t *target, _ keys) request {
	return t.post(floorWrite, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"x"}, algorithmParam: {es256}})
}

func floorCodeFlow(algorithm string) func(*target, keys) request {
	return func(t *target, _ keys) request {
		redeem := t.post(floorWrite, url.Values{"grant_type": {"authorization_code"}, "code": {"x"}, algorithmParam: {algorithm}})
		return func(ctx context.Context, worker int) error {
			if _, err := t.send(ctx, message{method: http.MethodGet, path: floorRedirect + "?state=x"}); err != nil {
				return err
			}
			return redeem(ctx, worker)
		}
	}
}

func prepareClientCredentials(client string) func(context.Context, *target, keys) (request, error) {
	return func(_ context.Context, t *target, _ keys) (request, error) {
		return t.repeated(message{
			method: http.MethodPost, path: "/token", client: client,
			form: url.Values{"grant_type": {"client_credentials"}, "scope": {apiScope}},
		}), nil
	}
}

// signIn signs the user in, consents, and keeps the cookies of the browser.
func (f *flow) signIn(ctx context.Context, t *target) error {
	query, _, err := f.request(ctx, t)
	if err != nil {
		return err
	}
	user := person.New(username, password)
	if _, err := user.Visit(t.url+"/authorize?"+query.Encode(), redirectOf(f.client)); err != nil {
		return err
	}
	f.cookies = user.Cookies(t.url)
	return nil
}

func authorizationRequest(client string) (query url.Values, verifier string) {
	verifier = oauth.NewCodeVerifier()
	return url.Values{
		"client_id": {client}, "response_type": {"code"}, "redirect_uri": {redirectOf(client)}, "scope": {scopes.String()},
		"state": {"s"}, "nonce": {"n"}, "code_challenge": {oauth.S256Challenge(verifier)}, "code_challenge_method": {"S256"},
	}, verifier
}

func redirectOf(client string) string {
	if client == clientFAPI {
		return secureRedirectURI
	}
	return redirectURI
}

type tokens struct {
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
	IDToken      string `json:"id_token"`
	TokenType    string `json:"token_type"`
}

// flow is a code flow with an existing session.
type flow struct {
	client     string
	cookies    []*http.Cookie
	pushed     bool  // with a pushed authorization request
	assertions *keys // the client authenticates with this key, if not nil
	proofs     *keys // the tokens are bound to this key, if not nil
}

// request returns the query of an authorization request. If requests are pushed, it pushes one.
func (f flow) request(ctx context.Context, t *target) (query url.Values, verifier string, err error) {
	query, verifier = authorizationRequest(f.client)
	if !f.pushed {
		return query, verifier, nil
	}
	push, err := f.authenticated(t, message{method: http.MethodPost, path: "/par", form: query})
	if err != nil {
		return nil, "", err
	}
	body, err := t.send(ctx, push)
	if err != nil {
		return nil, "", err
	}
	var pushed struct {
		RequestURI string `json:"request_uri"`
	}
	if err := json.Unmarshal(body, &pushed); err != nil {
		return nil, "", err
	}
	return url.Values{"client_id": {f.client}, "request_uri": {pushed.RequestURI}}, verifier, nil
}

func (f flow) run(ctx context.Context, t *target) (tokens, error) {
	query, verifier, err := f.request(ctx, t)
	if err != nil {
		return tokens{}, err
	}
	location, err := t.send(ctx, message{method: http.MethodGet, path: "/authorize?" + query.Encode(), cookies: f.cookies})
	if err != nil {
		return tokens{}, err
	}
	callback, err := url.Parse(string(location))
	if err != nil || callback.Query().Get("code") == "" {
		return tokens{}, fmt.Errorf("the response has no code: %s", location)
	}
	issued, err := f.redeem(ctx, t, url.Values{
		"grant_type": {"authorization_code"}, "code": {callback.Query().Get("code")},
		"redirect_uri": {redirectOf(f.client)}, "code_verifier": {verifier},
	})
	if err == nil && issued.IDToken == "" {
		err = errors.New("the ID token is missing")
	}
	return issued, err
}

// authenticated adds the credentials of the client to a message.
func (f flow) authenticated(t *target, m message) (message, error) {
	m.client = f.client
	if f.assertions == nil {
		return m, nil
	}
	assertion, err := f.assertions.assertion(f.client, t.url)
	if err != nil {
		return m, err
	}
	m.anonymous = true
	m.form.Set("client_id", f.client)
	m.form.Set("client_assertion_type", assertionType)
	m.form.Set("client_assertion", assertion)
	return m, nil
}

// redeem sends a token request.
func (f flow) redeem(ctx context.Context, t *target, form url.Values) (issued tokens, err error) {
	m, err := f.authenticated(t, message{method: http.MethodPost, path: "/token", form: form})
	if err != nil {
		return issued, err
	}
	if f.proofs != nil {
		if m.proof, err = f.proofs.proof(http.MethodPost, t.url+"/token"); err != nil {
			return issued, err
		}
	}
	body, err := t.send(ctx, m)
	if err != nil {
		return issued, err
	}
	err = json.Unmarshal(body, &issued)
	if err == nil && (issued.AccessToken == "" || issued.RefreshToken == "") {
		err = errors.New("a token is missing")
	}
	if err == nil && (issued.TokenType == tokenTypeDPoP) != (f.proofs != nil) {
		err = fmt.Errorf("the token type is %q", issued.TokenType)
	}
	return issued, err
}

// tokenTypeDPoP is the type of tokens that are bound to the key of DPoP proofs.
const tokenTypeDPoP = "DPoP"

// each returns a request that runs the flow.
func (f flow) each(t *target) request {
	return func(ctx context.Context, _ int) error {
		_, err := f.run(ctx, t)
		return err
	}
}

func prepareCodeFlow(client string) func(context.Context, *target, keys) (request, error) {
	return func(ctx context.Context, t *target, _ keys) (request, error) {
		f := flow{client: client}
		err := f.signIn(ctx, t)
		return f.each(t), err
	}
}

// maxWorkers is the number of workers for which tokens are prepared.
const maxWorkers = 256

func prepareRefresh(ctx context.Context, t *target, _ keys) (request, error) {
	f := flow{client: clientID}
	if err := f.signIn(ctx, t); err != nil {
		return nil, err
	}
	return f.refreshes(ctx, t)
}

// refreshes returns a request that uses the worker's refresh token and keeps its successor.
func (f flow) refreshes(ctx context.Context, t *target) (request, error) {
	current := make([]string, maxWorkers)
	for i := range current {
		issued, err := f.run(ctx, t)
		if err != nil {
			return nil, err
		}
		current[i] = issued.RefreshToken
	}
	return func(ctx context.Context, worker int) error {
		issued, err := f.redeem(ctx, t, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {current[worker]}})
		if err != nil {
			return err
		}
		current[worker] = issued.RefreshToken
		return nil
	}, nil
}

func prepareIntrospection(ctx context.Context, t *target, _ keys) (request, error) {
	f := flow{client: clientID}
	if err := f.signIn(ctx, t); err != nil {
		return nil, err
	}
	forms := make([]url.Values, maxWorkers)
	for i := range forms {
		issued, err := f.run(ctx, t)
		if err != nil {
			return nil, err
		}
		forms[i] = url.Values{"token": {issued.AccessToken}}
	}
	var next atomic.Int64
	return func(ctx context.Context, _ int) error {
		body, err := t.send(ctx, message{method: http.MethodPost, path: "/introspect", form: forms[next.Add(1)%maxWorkers]})
		if err == nil && !bytes.Contains(body, []byte(`"active":true`)) {
			err = fmt.Errorf("the token is not active: %s", body)
		}
		return err
	}, nil
}
