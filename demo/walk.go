package demo

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
)

// walk is one run of a scene.
type walk struct {
	scene       scene
	breakage    *breakage // nil if nothing is broken
	recording   recording
	transaction *client.Transaction
	address     string // of the authorization request
	tokens      *client.Tokens
	// from is the party that sends from here on, if it is not the application.
	from string
	// waits is the URL of a page where the user must act before the scene continues; waitsFor
	// is the instruction; qrCode, if there is one, contains the URL.
	waits, waitsFor string
	qrCode          image.Image
	// state belongs to the scene.
	state any
	// result is the API's response, or the reason for a refusal.
	result string
	failed bool
}

func (w *walk) sender() string { return cmp.Or(w.from, partyApp) }

// begin prepares an authorization request and returns its URL.
func (d *Demo) begin(ctx context.Context, w *walk) (string, error) {
	if w.scene.start != nil {
		err := w.scene.start(ctx, d, w)
		return w.address, err
	}
	var err error
	w.address, w.transaction, err = d.clients[w.scene.key].AuthorizationURL(ctx, client.AuthorizationOptions{})
	return w.address, err
}

// redeem handles the authorization response: it exchanges the code for tokens, or does what the
// breakage says.
func (d *Demo) redeem(ctx context.Context, w *walk, callback *url.URL) error {
	d.frontChannel(&w.recording, &w.scene, w.address, callback)
	c := d.clients[w.scene.key]
	parameters := callback.Query()
	if w.scene.responseType != "" {
		var err error
		if parameters, err = url.ParseQuery(callback.EscapedFragment()); err != nil {
			return fmt.Errorf("read the fragment: %w", err)
		}
	}
	transaction := *w.transaction
	purpose := "Exchange the code for tokens. The code works once (RFC 6749, section 4.1.2), and only with the PKCE verifier, which never left the app (RFC 7636, section 4.6)."
	if w.scene.clientSecret != "" {
		purpose += " The app authenticates with its secret (RFC 6749, section 3.2.1)."
	}
	switch w.breakKey() {
	case "verifier":
		transaction.CodeVerifier = oauth.NewCodeVerifier()
		purpose = "Exchange the code with a wrong verifier. The server compares its hash with the code_challenge of the authorization request (RFC 7636, section 4.6)."
	case "redirect-token":
		transaction.RedirectURI += "/elsewhere"
		purpose = "Exchange the code with a different redirect URI. It must be the one from the authorization request (RFC 6749, section 4.1.3)."
	}
	again := transaction
	tokens, err := c.Callback(recorded(ctx, &w.recording, purpose), &transaction, parameters)
	if err != nil {
		return w.refused(err)
	}
	w.tokens = tokens
	if w.breakKey() == "replay" {
		_, err := c.Callback(recorded(ctx, &w.recording, "Exchange the same code again. A code works once; the tokens that were issued for it are revoked (RFC 6749, section 4.1.2)."), &again, parameters)
		return w.refused(err)
	}
	if w.scene.run != nil {
		return w.scene.run(ctx, d, w)
	}
	return d.callAPI(ctx, w)
}

// callPurpose is the purpose of a normal API call.
const callPurpose = "Call the API with the access token. The API checks signature, issuer, audience, expiry and scope (RFC 9068, section 4)."

// callAPI calls the API in the normal way.
func (d *Demo) callAPI(ctx context.Context, w *walk) error {
	if err := d.renew(ctx, w); err != nil || w.failed {
		return err
	}
	return d.request(ctx, w, http.MethodGet, "/photos", callPurpose)
}

// renew gets a new access token if the current one is about to expire.
func (d *Demo) renew(ctx context.Context, w *walk) error {
	if time.Until(w.tokens.Expiry) >= time.Second {
		return nil
	}
	if w.tokens.RefreshToken == "" && w.scene.callback != "" {
		w.failed, w.result = true, "The access token has expired and there is no refresh token. Start again."
		return nil
	}
	if w.tokens.RefreshToken == "" {
		return d.getTokens(ctx, w)
	}
	tokens, err := d.clients[w.scene.key].Refresh(recorded(ctx, &w.recording, "Get a new access token with the refresh token. The access token has expired. The refresh token is replaced too, so that a stolen copy is detected when both are used (RFC 9700, section 4.14)."), w.tokens)
	if err != nil {
		return w.refused(err)
	}
	w.tokens = tokens
	return nil
}

// request sends one request to the API with the walk's access token.
func (d *Demo) request(ctx context.Context, w *walk, method, path, purpose string) error {
	return d.requestAt(ctx, w, method, d.api+path, purpose)
}

// requestAt is like request, for another API.
func (d *Demo) requestAt(ctx context.Context, w *walk, method, address, purpose string) error {
	request, err := http.NewRequestWithContext(recordedFrom(ctx, &w.recording, w.sender(), purpose), method, address, nil)
	if err != nil {
		return fmt.Errorf("call the API: %w", err)
	}
	request.Header.Set("Authorization", "Bearer "+w.tokens.AccessToken)
	return d.deliver(w, request)
}

// deliver sends a request to an API and keeps the response.
func (d *Demo) deliver(w *walk, request *http.Request) error {
	response, err := (&http.Client{Transport: d.recorder()}).Do(request)
	if err != nil {
		return fmt.Errorf("call the API: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("call the API: %w", err)
	}
	w.failed = response.StatusCode >= 400
	w.result = strings.TrimSpace(string(body))
	if challenge := response.Header.Get("WWW-Authenticate"); w.failed && challenge != "" {
		w.result = challenge
	}
	return nil
}

// getTokens requests a token for the client itself.
func (d *Demo) getTokens(ctx context.Context, w *walk) error {
	tokens, err := d.clients[w.scene.key].ClientCredentials(recorded(ctx, &w.recording, "Request a token for the client itself. The client authenticates with its secret (RFC 6749, section 4.4) and gets only scopes that it is registered for."))
	if err != nil {
		return w.refused(err)
	}
	w.tokens = tokens
	return nil
}

// misbehave does what a breakage says that needs no new code.
func (d *Demo) misbehave(ctx context.Context, w *walk) error {
	if w.scene.run != nil {
		return w.scene.run(ctx, d, w)
	}
	key := w.breakKey()
	if w.tokens == nil && (key == "expired" || key == "scope") {
		if err := d.getTokens(ctx, w); err != nil || w.failed {
			return err
		}
	}
	switch key {
	case "expired":
		wait := time.NewTimer(time.Until(w.tokens.Expiry) + 2*time.Second)
		defer wait.Stop()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-wait.C:
		}
		return d.request(ctx, w, http.MethodGet, "/photos", "Call the API with an expired access token. The API checks the exp claim (RFC 9068, section 4).")
	case "scope":
		if err := d.renew(ctx, w); err != nil || w.failed {
			return err
		}
		return d.request(ctx, w, http.MethodDelete, "/photos/1", "Call an API route that requires another scope. The API compares it with the scope of the token (RFC 6750, section 3.1).")
	case "redirect":
		return d.otherRedirectURI(ctx, w)
	case "nonce":
		return d.askWrongly(ctx, w, "Request an ID token without a nonce. Nothing would tie it to this sign-in (OpenID Connect Core, section 3.2.2.1).", func(query url.Values) { query.Del("nonce") })
	case "unregistered":
		return d.askWrongly(ctx, w, "Request tokens in the URL for another app. It is registered for the code flow only (RFC 6749, section 4.2.2.1).", func(query url.Values) {
			query.Set("client_id", webScene().clientID)
			query.Set("redirect_uri", d.app+webScene().callback)
		})
	case "secret":
		return d.postToken(ctx, w, "not-the-secret-of-the-client", w.scene.scopes[0], "Request a token with a wrong secret. The server compares it with the registered one (RFC 6749, section 5.2).")
	case "ask-scope":
		return d.postToken(ctx, w, w.scene.clientSecret, scopeDelete, "Request a scope that the client is not registered for. A client cannot extend its own access (RFC 6749, section 4.4.2).")
	}
	return fmt.Errorf("unknown breakage %q", key)
}

// otherRedirectURI sends an authorization request whose redirect URI differs in one character.
func (d *Demo) otherRedirectURI(ctx context.Context, w *walk) error {
	return d.askWrongly(ctx, w, "Ask for the code to be sent to another address. Redirect URIs are compared exactly (RFC 9700, section 2.1). There is no safe address for the error, so the user sees a page.", func(query url.Values) {
		query.Set("redirect_uri", query.Get("redirect_uri")+"k")
	})
}

// askWrongly sends a modified authorization request.
func (d *Demo) askWrongly(ctx context.Context, w *walk, purpose string, change func(url.Values)) error {
	address, err := d.begin(ctx, w)
	if err != nil {
		return err
	}
	u, err := url.Parse(address)
	if err != nil {
		return fmt.Errorf("read the authorization URL: %w", err)
	}
	query := u.Query()
	change(query)
	u.RawQuery = query.Encode()
	return d.send(ctx, w, http.MethodGet, u.String(), "", "", purpose)
}

func (d *Demo) postToken(ctx context.Context, w *walk, secret, scope, purpose string) error {
	form := url.Values{"grant_type": {oauth.GrantTypeClientCredentials}, "scope": {scope}}
	return d.send(ctx, w, http.MethodPost, d.clients[w.scene.key].Metadata().TokenEndpoint, form.Encode(), secret, purpose)
}

// ask sends a token request that the client library does not offer, and keeps the tokens.
func (d *Demo) ask(ctx context.Context, w *walk, form url.Values, purpose string) error {
	if w.scene.clientSecret == "" {
		form.Set("client_id", w.scene.clientID)
	}
	body, err := d.exchange(ctx, w, http.MethodPost, d.issuer+"/token", form.Encode(), w.scene.clientSecret, purpose)
	if err != nil || w.failed {
		return err
	}
	var response oauth.TokenResponse
	if err := json.Unmarshal(body, &response); err != nil {
		return fmt.Errorf("read the token response: %w", err)
	}
	w.tokens = &client.Tokens{
		AccessToken: response.AccessToken, RefreshToken: response.RefreshToken,
		Expiry: time.Now().Add(time.Duration(response.ExpiresIn) * time.Second),
	}
	return nil
}

// send sends a request that the client library would not send.
func (d *Demo) send(ctx context.Context, w *walk, method, address, body, secret, purpose string) error {
	_, err := d.exchange(ctx, w, method, address, body, secret, purpose)
	return err
}

func (d *Demo) exchange(ctx context.Context, w *walk, method, address, body, secret, purpose string) ([]byte, error) {
	request, err := http.NewRequestWithContext(recordedFrom(ctx, &w.recording, w.sender(), purpose), method, address, strings.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("send a request: %w", err)
	}
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if secret != "" {
			request.SetBasicAuth(url.QueryEscape(w.scene.clientID), url.QueryEscape(secret))
		}
	}
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	response, err := (&http.Client{Transport: d.recorder(), CheckRedirect: stay}).Do(request)
	if err != nil {
		return nil, fmt.Errorf("send a request: %w", err)
	}
	defer response.Body.Close()
	received, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("read a response: %w", err)
	}
	w.failed = response.StatusCode >= 400 || strings.Contains(response.Header.Get("Location"), "error=")
	if m := w.recording.last(); m.Refusal != nil {
		w.result = "Refused: " + m.Refusal.Rule
	}
	return received, nil
}

// refused records the server's refusal. Any other error is returned.
func (w *walk) refused(err error) error {
	var refusal *client.Error
	if !errors.As(err, &refusal) {
		return err
	}
	w.failed, w.result = true, refusal.Error()
	return nil
}

func (w *walk) breakKey() string {
	if w.breakage == nil {
		return ""
	}
	return w.breakage.key
}
