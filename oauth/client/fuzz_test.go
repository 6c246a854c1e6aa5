package client

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
)

// Every response of the token endpoint results in usable tokens or in one of the package's
// errors, and no error contains a token.
func FuzzTokenResponse(f *testing.F) {
	f.Add(200, "application/json", `{"access_token":"a","token_type":"Bearer","expires_in":"3600"}`)
	f.Add(200, "text/html", `<!doctype html>`)
	f.Add(400, "application/json", `{"error":"invalid_grant","error_description":"\u0000"}`)
	f.Add(200, "", `{"access_token":"a","token_type":"Bearer","expires_in":1e999}`)
	now := time.Now()
	f.Fuzz(func(t *testing.T, status int, contentType, body string) {
		tokens, err := parseTokens(&response{status, http.Header{"Content-Type": {contentType}}, []byte(body)}, now, nil)
		if err != nil {
			var protocol *Error
			if !errors.Is(err, ErrResponse) && !errors.As(err, &protocol) {
				t.Errorf("an unknown error: %v", err)
			}
			if s := err.Error(); len(s) > 1000 || strings.ContainsAny(s, "\r\n\x00") {
				t.Errorf("the message is %q", s)
			}
			return
		}
		if status != http.StatusOK || !printable(tokens.AccessToken) || tokens.TokenType != "Bearer" {
			t.Errorf("status %d, token type %q were accepted", status, tokens.TokenType)
		}
		if !tokens.Expiry.IsZero() && (tokens.Expiry.Before(now.Round(0)) || tokens.Expiry.Sub(now) > 11*365*24*time.Hour) {
			t.Errorf("the token expires at %v", tokens.Expiry)
		}
	})
}

// A code is accepted only if the query has the state and the issuer exactly once, and no
// error.
func FuzzCallback(f *testing.F) {
	f.Add("code=a&state=the-state&iss=https%3A%2F%2Fop.example")
	f.Add("code=a&code=b&state=the-state&iss=https%3A%2F%2Fop.example")
	f.Add("error=access_denied&state=the-state&iss=https%3A%2F%2Fop.example")
	f.Add("state=the-state;code=a")
	now := time.Now()
	c, err := New(oauth.ServerMetadata{
		Issuer: "https://op.example", AuthorizationResponseIssParameterSupported: true,
	}, Config{Issuer: "https://op.example", ClientID: "app"})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, query string) {
		values, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		transaction := &Transaction{
			Issuer: "https://op.example", ClientID: "app", State: "the-state", CodeVerifier: "verifier", Expires: now.Add(time.Minute),
		}
		if err := c.checkCallback(transaction, values, now); err != nil {
			if erased := transaction.State == ""; erased == errors.Is(err, ErrState) {
				t.Errorf("erased: %v after %v", erased, err)
			}
			return
		}
		for name, want := range map[string]string{"state": "the-state", "iss": "https://op.example"} {
			if len(values[name]) != 1 || values[name][0] != want {
				t.Errorf("%s is %q", name, values[name])
			}
		}
		if values.Has("error") || len(values["code"]) > 1 {
			t.Error("an error, or two codes, were accepted")
		}
	})
}

// No metadata results in a client of another issuer, or in one that uses an unencrypted
// connection.
func FuzzMetadata(f *testing.F) {
	f.Add(`{"issuer":"https://op.example","token_endpoint":"https://op.example/token"}`)
	f.Add(`{"issuer":"https://op.example","token_endpoint":"http://127.0.0.1/token"}`)
	f.Add(`{"issuer":"https://op.example/","jwks_uri":"//op.example"}`)
	f.Fuzz(func(t *testing.T, document string) {
		var metadata oauth.ServerMetadata
		if json.Unmarshal([]byte(document), &metadata) != nil {
			return
		}
		c, err := New(metadata, Config{Issuer: "https://op.example", ClientID: "app", RedirectURI: "https://app.example/"})
		if err != nil {
			return
		}
		got := c.Metadata()
		if got.Issuer != "https://op.example" {
			t.Errorf("the issuer is %q", got.Issuer)
		}
		for _, endpoint := range []string{
			got.AuthorizationEndpoint, got.TokenEndpoint, got.UserinfoEndpoint, got.JWKSURI, got.RevocationEndpoint, got.EndSessionEndpoint,
		} {
			if u, err := url.Parse(endpoint); endpoint != "" && (err != nil || u.Scheme != "https" || u.Host == "") {
				t.Errorf("an endpoint is %q", endpoint)
			}
		}
	})
}

// Only a JWT that the provider signed is accepted as a response, and no other ends the sign-in
// unless it has the state.
func FuzzResponseJWT(f *testing.F) {
	const secret = "a secret with 32 bytes or more ..."
	c, err := New(oauth.ServerMetadata{Issuer: "https://op.example"}, Config{
		Issuer: "https://op.example", ClientID: "app", ClientSecret: secret, AuthorizationSigningAlg: jose.HS256,
	})
	if err != nil {
		f.Fatal(err)
	}
	signer, err := jose.NewSecretSigner(jose.HS256, []byte(secret))
	if err != nil {
		f.Fatal(err)
	}
	good, err := signer.Sign("JWT", []byte(`{"iss":"https://op.example","aud":"app","exp":4102444800,"state":"the-state","code":"c"}`))
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{good, good + "=", good[1:], "a.b.c", "a.b.c.d.e", "eyJhbGciOiJub25lIn0.eyJzdGF0ZSI6InRoZS1zdGF0ZSJ9.", "...."} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		transaction := &Transaction{Issuer: "https://op.example", ClientID: "app", State: "the-state"}
		response := url.Values{"response": {token}}
		_, err := c.openResponse(t.Context(), transaction, response)
		if (err == nil) != (token == good) {
			t.Errorf("%q: %v", token, err)
		}
		if erased := transaction.State == ""; err != nil && erased && c.responseState(response) != "the-state" {
			t.Errorf("%q ended the sign-in", token)
		}
	})
}
