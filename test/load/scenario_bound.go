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
// create the same signatures, and store nothing.
func boundScenarios() []scenario {
	return []scenario{
		{"jwt_dpop", "client_credentials, private_key_jwt and DPoP", prepareAssertions, floorAssertions, limits{
			1.5, 1.5, "the floor verifies two signatures and signs; this also stores that assertion and proof were used"}},
		{"refresh_dpop", "refresh with DPoP", prepareBoundRefresh, func(t *target, client keys) request {
			form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"x"}, algorithmParam: {es256}}
			return func(ctx context.Context, _ int) error {
				proof, err := client.proof(http.MethodPost, t.url+floorVerifyTwice)
				if err != nil {
					return err
				}
				_, err = t.send(ctx, message{method: http.MethodPost, path: floorVerifyTwice, form: form, proof: proof})
				return err
			}
		}, limits{1.5, 1.5, "the floor verifies a signature and signs twice; this also reads the token and its grant, and stores the next one"}},
		{"par_code_flow", "code flow with PAR", prepareCodeFlowWithPAR, func(t *target, client keys) request {
			push := t.post(floorParse, url.Values{"client_id": {clientID}, "state": {"s"}})
			redeem := t.post(floorSignTwice, url.Values{"grant_type": {"authorization_code"}, "code": {"x"}, algorithmParam: {es256}})
			return func(ctx context.Context, worker int) error {
				if err := push(ctx, worker); err != nil {
					return err
				}
				if _, err := t.send(ctx, message{method: http.MethodGet, path: floorRedirect + "?state=x"}); err != nil {
					return err
				}
				return redeem(ctx, worker)
			}
		}, limits{1.5, 1.5, "the floor signs twice; this also stores the request, its use and the tokens"}},
	}
}

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
			"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}, "client_assertion": {assertion},
		}})
		if err == nil && !bytes.Contains(body, []byte(`"token_type":"`+tokenType+`"`)) {
			err = fmt.Errorf("the token type is not %s: %s", tokenType, body)
		}
		return err
	}
}

func prepareBoundRefresh(ctx context.Context, t *target, client keys) (request, error) {
	cookies, err := signedIn(t, clientID)
	if err != nil {
		return nil, err
	}
	return flow{client: clientID, cookies: cookies, proofs: &client}.refreshes(ctx, t)
}

func prepareCodeFlowWithPAR(_ context.Context, t *target, _ keys) (request, error) {
	cookies, err := signedIn(t, clientID)
	return flow{client: clientID, cookies: cookies, pushed: true}.each(t), err
}
