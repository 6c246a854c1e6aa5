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

// walk is one go through a scene.
type walk struct {
	scene       scene
	breakage    *breakage // nil: all goes well
	recording   recording
	transaction *client.Transaction
	address     string // of the authorization request
	tokens      *client.Tokens
	// from is who sends from here on, if it is not the application.
	from string
	// waits is a page where the person must act before the scene goes on; waitsFor says
	// what they do there, and with what; qrCode, if there is one, leads there too.
	waits, waitsFor string
	qrCode          image.Image
	// state is the scene's own.
	state any
	// answer is the API's, or what refused.
	answer string
	failed bool
}

func (w *walk) sender() string { return cmp.Or(w.from, partyApp) }

// begin prepares an authorization request and returns where to send the browser.
func (d *Demo) begin(w *walk) (string, error) {
	var err error
	w.address, w.transaction, err = d.clients[w.scene.key].AuthorizationURL(client.AuthorizationOptions{})
	return w.address, err
}

// redeem takes the browser's return: the code becomes tokens, or, where something is to
// be broken, a refusal.
func (d *Demo) redeem(ctx context.Context, w *walk, callback *url.URL) error {
	d.frontChannel(&w.recording, w.scene.clientID, w.address, callback)
	c := d.clients[w.scene.key]
	answer := callback.Query()
	if w.scene.responseType != "" {
		var err error
		if answer, err = url.ParseQuery(callback.EscapedFragment()); err != nil {
			return fmt.Errorf("read the fragment: %w", err)
		}
	}
	transaction := *w.transaction
	purpose := "Exchange the code for tokens, with the client's credentials and the PKCE verifier"
	switch w.breakKey() {
	case "verifier":
		transaction.CodeVerifier = oauth.NewCodeVerifier()
		purpose = "Exchange the code with a wrong verifier"
	case "redirect-token":
		transaction.RedirectURI += "/elsewhere"
		purpose = "Exchange the code with a different redirect URI"
	}
	again := transaction
	tokens, err := c.Callback(recorded(ctx, &w.recording, purpose), &transaction, answer)
	if err != nil {
		return w.refused(err)
	}
	w.tokens = tokens
	if w.breakKey() == "replay" {
		_, err := c.Callback(recorded(ctx, &w.recording, "Exchange the same code again"), &again, answer)
		return w.refused(err)
	}
	if w.scene.run != nil {
		return w.scene.run(ctx, d, w)
	}
	return d.callAPI(ctx, w)
}

// callAPI calls the API as the application does.
func (d *Demo) callAPI(ctx context.Context, w *walk) error {
	if err := d.renew(ctx, w); err != nil || w.failed {
		return err
	}
	return d.request(ctx, w, http.MethodGet, "/photos", "Call the API with the access token")
}

// renew gets another access token if the present one is about to end.
func (d *Demo) renew(ctx context.Context, w *walk) error {
	if time.Until(w.tokens.Expiry) >= time.Second {
		return nil
	}
	if w.tokens.RefreshToken == "" && w.scene.callback != "" {
		w.failed, w.answer = true, "The access token has expired and there is no refresh token. Start again."
		return nil
	}
	if w.tokens.RefreshToken == "" {
		return d.getTokens(ctx, w)
	}
	tokens, err := d.clients[w.scene.key].Refresh(recorded(ctx, &w.recording, "The access token has expired: get a new one with the refresh token, which is replaced too"), w.tokens)
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

// requestAt is request for another API.
func (d *Demo) requestAt(ctx context.Context, w *walk, method, address, purpose string) error {
	request, err := http.NewRequestWithContext(recordedFrom(ctx, &w.recording, w.sender(), purpose), method, address, nil)
	if err != nil {
		return fmt.Errorf("call the API: %w", err)
	}
	request.Header.Set("Authorization", "Bearer "+w.tokens.AccessToken)
	return d.deliver(w, request)
}

// deliver sends a request to an API and notes its answer.
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
	w.answer = strings.TrimSpace(string(body))
	if challenge := response.Header.Get("WWW-Authenticate"); w.failed && challenge != "" {
		w.answer = challenge
	}
	return nil
}

// getTokens is the first step of a service.
func (d *Demo) getTokens(ctx context.Context, w *walk) error {
	tokens, err := d.clients[w.scene.key].ClientCredentials(recorded(ctx, &w.recording, "Request a token in the client's own name, with its credentials"))
	if err != nil {
		return w.refused(err)
	}
	w.tokens = tokens
	return nil
}

// misbehave does what a breakage without a new code is about.
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
		return d.request(ctx, w, http.MethodGet, "/photos", "Call the API with an access token that has expired")
	case "scope":
		if err := d.renew(ctx, w); err != nil || w.failed {
			return err
		}
		return d.request(ctx, w, http.MethodDelete, "/photos/1", "Call an API route that requires another scope")
	case "redirect":
		return d.otherRedirectURI(ctx, w)
	case "nonce":
		return d.askWrongly(ctx, w, "Request an ID token without a nonce", func(query url.Values) { query.Del("nonce") })
	case "unregistered":
		return d.askWrongly(ctx, w, "Request a token in the fragment for an app that is not registered for it", func(query url.Values) {
			query.Set("client_id", webScene().clientID)
			query.Set("redirect_uri", d.app+webScene().callback)
		})
	case "secret":
		return d.postToken(ctx, w, "not-the-secret-of-the-client", w.scene.scopes[0], "Request a token with a wrong secret")
	case "ask-scope":
		return d.postToken(ctx, w, w.scene.clientSecret, scopeDelete, "Request a scope that the client is not registered for")
	}
	return fmt.Errorf("there is no way %q to break this", key)
}

// otherRedirectURI sends an authorization request with a redirect URI that differs in one
// character.
func (d *Demo) otherRedirectURI(ctx context.Context, w *walk) error {
	return d.askWrongly(ctx, w, "Request that the response is sent to another address; the user sees this page", func(query url.Values) {
		query.Set("redirect_uri", query.Get("redirect_uri")+"k")
	})
}

// askWrongly sends an authorization request that was changed.
func (d *Demo) askWrongly(ctx context.Context, w *walk, purpose string, change func(url.Values)) error {
	address, err := d.begin(w)
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

// ask sends a token request that the client library has no words for, and keeps the tokens.
func (d *Demo) ask(ctx context.Context, w *walk, form url.Values, purpose string) error {
	if w.scene.clientSecret == "" {
		form.Set("client_id", w.scene.clientID)
	}
	body, err := d.exchange(ctx, w, http.MethodPost, d.issuer+"/token", form.Encode(), w.scene.clientSecret, purpose)
	if err != nil || w.failed {
		return err
	}
	var answer oauth.TokenResponse
	if err := json.Unmarshal(body, &answer); err != nil {
		return fmt.Errorf("read the token response: %w", err)
	}
	w.tokens = &client.Tokens{
		AccessToken: answer.AccessToken, RefreshToken: answer.RefreshToken,
		Expiry: time.Now().Add(time.Duration(answer.ExpiresIn) * time.Second),
	}
	return nil
}

// send sends what the client library would not.
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
		return nil, fmt.Errorf("read an answer: %w", err)
	}
	w.failed = response.StatusCode >= 400 || strings.Contains(response.Header.Get("Location"), "error=")
	if m := w.recording.last(); m.Refusal != nil {
		w.answer = "Refused: " + m.Refusal.Rule
	}
	return received, nil
}

// refused notes that the server refused; another error than that is passed on.
func (w *walk) refused(err error) error {
	var refusal *client.Error
	if !errors.As(err, &refusal) {
		return err
	}
	w.failed, w.answer = true, refusal.Error()
	return nil
}

func (w *walk) breakKey() string {
	if w.breakage == nil {
		return ""
	}
	return w.breakage.key
}
