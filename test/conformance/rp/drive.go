package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/valetkey/valetkey/oauth/client"
)

func (a *application) drive(ctx context.Context, s *suite, test *instance, module string, v variant) error {
	issuer := test.Exposed.Issuer
	if strings.Contains(module, "webfinger") {
		found, err := a.findIssuer(ctx, s, module)
		if err != nil {
			return err
		}
		issuer = found
	}
	made, err := a.prepare(ctx, issuer, module, v)
	if err != nil {
		return err
	}
	if endsEarly(module) {
		return nil
	}
	a.current.Store(made)
	if strings.Contains(module, "3rd-party-init-login") {
		return a.sentBySuite(ctx, s, test.ID, made)
	}
	if err := made.signIn(ctx, a.server.URL); err != nil {
		return err
	}
	switch {
	case strings.HasSuffix(module, "signing-key-rotation"):
		return made.signIn(ctx, a.server.URL)
	case strings.Contains(module, "aggregated-claims"), strings.Contains(module, "distributed-claims"):
		return made.open(ctx, a.server.URL+"/claims")
	case strings.Contains(module, "refresh-token"):
		return made.open(ctx, a.server.URL+"/refresh")
	case strings.Contains(module, "frontchannel-opinitlogout"):
		return a.sentBySuite(ctx, s, test.ID, made)
	case strings.Contains(module, "session-management"):
		return made.watchSession(ctx, a.server.URL)
	case strings.Contains(module, "logout"):
		return made.signOut(ctx, a.server.URL)
	}
	return nil
}

// endsEarly reports whether the suite ends a module as soon as the provider is discovered or
// the client is registered, and reports later requests as errors.
func endsEarly(module string) bool {
	return strings.Contains(module, "webfinger") || strings.Contains(module, "discovery-openid-config") || strings.Contains(module, "dynamic-registration")
}

func (a *application) findIssuer(ctx context.Context, s *suite, module string) (string, error) {
	u, err := url.Parse(s.address)
	if err != nil {
		return "", err
	}
	identifier := "acct:" + a.alias + "." + module + "@" + u.Host
	if strings.HasSuffix(module, "-url") {
		identifier = s.address + "/" + a.alias + "/" + module
	}
	return client.FindIssuer(ctx, identifier, a.http)
}

// sentBySuite waits until the suite sends the browser to an address, and visits it.
func (a *application) sentBySuite(ctx context.Context, s *suite, id string, made *visit) error {
	for range 50 {
		test, err := s.instance(ctx, id)
		if err != nil {
			return err
		}
		if len(test.Browser.URLs) > 0 {
			address := test.Browser.URLs[0]
			var ignored any
			err := s.call(ctx, http.MethodPost, "/api/runner/browser/"+id+"/visit", url.Values{"url": {address}}, nil, &ignored)
			if err != nil && !strings.Contains(err.Error(), "unexpected end of JSON") {
				return err
			}
			return made.open(ctx, address)
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return errors.New("the suite sent the browser to no address")
}

// routes adds the application's own pages to those of the relying party.
func (v *visit) routes() {
	mux := http.NewServeMux()
	mux.Handle("/auth/", v.party)
	mux.Handle("/home", v.party.Load(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s := client.SessionFrom(r.Context()); s != nil {
			fmt.Fprintf(w, "signed in as %s", s.Subject)
		}
	})))
	mux.Handle("/refresh", v.party.Require(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tokens, err := v.client.Refresh(r.Context(), client.SessionFrom(r.Context()).Tokens)
		if err == nil {
			_, err = v.client.UserInfo(r.Context(), tokens)
		}
		v.mu.Lock()
		defer v.mu.Unlock()
		v.failure = err
	})))
	mux.Handle("/claims", v.party.Require(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		claims, err := v.client.OtherClaims(r.Context(), client.SessionFrom(r.Context()).UserInfo.Claims)
		if err == nil && len(claims) == 0 {
			err = errors.New("no other claims")
		}
		v.mu.Lock()
		defer v.mu.Unlock()
		v.failure = err
	})))
	mux.HandleFunc("/request/", func(w http.ResponseWriter, r *http.Request) {
		v.mu.Lock()
		defer v.mu.Unlock()
		w.Header().Set("Content-Type", "application/oauth-authz-req+jwt")
		w.Write([]byte(v.requests[r.URL.Path]))
	})
	v.handler = mux
}

// publish stores a request object and returns its path.
func (v *visit) publish(object string) string {
	v.mu.Lock()
	defer v.mu.Unlock()
	path := fmt.Sprintf("/request/%d", len(v.requests)+1)
	v.requests[path] = object
	return path
}

// open visits a page and returns the error of the relying party.
func (v *visit) open(ctx context.Context, address string) error {
	_, err := v.browser.visit(ctx, address)
	if refused := v.refused(); refused != nil {
		return refused
	}
	return err
}

// refused returns the relying party's last error and clears it.
func (v *visit) refused() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	err := v.failure
	v.failure = nil
	return err
}

func (v *visit) signIn(ctx context.Context, app string) error {
	if err := v.open(ctx, app+"/auth/sign-in"); err != nil {
		return err
	}
	return v.expect(ctx, app, true)
}

// expect checks whether the user is signed in.
func (v *visit) expect(ctx context.Context, app string, signedIn bool) error {
	home, err := v.browser.visit(ctx, app+"/home")
	if err != nil {
		return err
	}
	if (home.body != "") != signedIn {
		return fmt.Errorf("the home page shows %q", home.body)
	}
	return nil
}

// signOut signs out of the application and of the provider, which notifies the relying party.
func (v *visit) signOut(ctx context.Context, app string) error {
	end, err := v.browser.submit(ctx, app+"/auth/sign-out", nil)
	if err == nil {
		err = v.refused()
	}
	if err != nil {
		return err
	}
	if !strings.HasPrefix(end.url.String(), app+"/home") {
		return fmt.Errorf("after the sign-out the browser is at %s", end.url)
	}
	return v.expect(ctx, app, false)
}
