package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
)

// boundScenarios are those of high security: clients that authenticate with keys, tokens that are
// bound to keys (RFC 9449), and pushed authorization requests (RFC 9126). Their floors verify and
// create the same signatures. Those of users' tokens also store what must be durable: the next refresh
// token, and the pushed request and that it was used. That of client_credentials stores nothing.
func boundScenarios() []scenario {
	return []scenario{
		{name: "jwt_dpop", title: "client_credentials, private_key_jwt and DPoP", prepare: prepareAssertions, floor: floorAssertions, limits: limits{
			1.5, 1.5, "the floor verifies two signatures and signs; this also stores that assertion and proof were used"}},
		{name: "refresh_dpop", title: "refresh with DPoP", prepare: prepareBoundRefresh, floor: func(t *target, client keys) request {
			form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"x"}, algorithmParam: {es256}}
			return func(ctx context.Context, _ int) error {
				proof, err := client.proof(http.MethodPost, t.url+floorProve)
				if err != nil {
					return err
				}
				_, err = t.send(ctx, message{method: http.MethodPost, path: floorProve, form: form, proof: proof})
				return err
			}
		}, limits: limits{1.3, 1.5, "the floor verifies a signature, signs twice and has one commit; this also reads the token and its grant, and stores the proof"}},
		{name: "par_code_flow", title: "code flow with PAR, private_key_jwt and DPoP", prepare: prepareCodeFlowWithPAR, floor: floorCodeFlowWithPAR, limits: limits{
			1.5, 1.5, "the floor verifies three signatures, signs twice and has three commits; this has two more, for the assertions, and reads the request, the session and the grant"}},
	}
}

const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

func prepareAssertions(_ context.Context, t *target, client keys) (request, error) {
	return assertions(t, client, "/token", tokenTypeDPoP), nil
}

func floorAssertions(t *target, client keys) request {
	return assertions(t, client, floorVerifySign, "Bearer")
}

// assertions returns a request with a new assertion and a new proof each time.
func assertions(t *target, client keys, path, tokenType string) request {
	return func(ctx context.Context, _ int) error {
		assertion, err := client.assertion(clientJWT, t.url)
		if err != nil {
			return err
		}
		proof, err := client.proof(http.MethodPost, t.url+path)
		if err != nil {
			return err
		}
		body, err := t.send(ctx, message{method: http.MethodPost, path: path, anonymous: true, proof: proof, form: url.Values{
			"grant_type": {"client_credentials"}, "scope": {apiScope}, "client_id": {clientJWT},
			"client_assertion_type": {assertionType}, "client_assertion": {assertion},
		}})
		if err == nil && !bytes.Contains(body, []byte(`"token_type":"`+tokenType+`"`)) {
			err = fmt.Errorf("the token type is not %s: %s", tokenType, body)
		}
		return err
	}
}

func prepareBoundRefresh(ctx context.Context, t *target, client keys) (request, error) {
	f := flow{client: clientID, proofs: &client}
	if err := f.signIn(ctx, t); err != nil {
		return nil, err
	}
	return f.refreshes(ctx, t)
}

// prepareCodeFlowWithPAR runs the code flow of a client with the profile fapi2, which authenticates
// with assertions at both endpoints, and whose tokens are bound to the key of proofs.
func prepareCodeFlowWithPAR(ctx context.Context, t *target, client keys) (request, error) {
	f := flow{client: clientFAPI, pushed: true, assertions: &client, proofs: &client}
	err := f.signIn(ctx, t)
	return f.each(t), err
}

func floorCodeFlowWithPAR(t *target, client keys) request {
	signed := func(ctx context.Context, path string, proves bool, form url.Values) (err error) {
		m := message{method: http.MethodPost, path: path, form: form, anonymous: true}
		assertion, err := client.assertion(clientFAPI, t.url)
		if err != nil {
			return err
		}
		m.form.Set("client_assertion", assertion)
		if proves {
			if m.proof, err = client.proof(http.MethodPost, t.url+path); err != nil {
				return err
			}
		}
		_, err = t.send(ctx, m)
		return err
	}
	return func(ctx context.Context, _ int) error {
		if err := signed(ctx, floorPush, false, url.Values{"client_id": {clientFAPI}, "state": {"s"}}); err != nil {
			return err
		}
		if _, err := t.send(ctx, message{method: http.MethodGet, path: floorSpend + "?state=x"}); err != nil {
			return err
		}
		return signed(ctx, floorRedeem, true, url.Values{"grant_type": {"authorization_code"}, "code": {"x"}, algorithmParam: {es256}})
	}
}
