package upstream

import (
	"testing"
	"time"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/chromium"
	"github.com/valetkey/valetkey/oauth/client"
)

const providerButton = "button[name=provider]"

// signInAt signs a person in at the provider, whose page names its client.
func signInAt(b *chromium.Tab, username string) {
	b.Shows("to continue to Login")
	b.Submit("#identifier", username, "#password", password)
}

// signInLocally signs carol in with her password here.
func signInLocally(b *chromium.Tab, issuer string) {
	b.Visit(issuer + "/sign-in")
	b.Submit("#identifier", "carol", "#password", password)
	b.Has("#methods")
}

// Someone with an account here links the one at the provider, signs in with it, and unlinks it.
func TestLinkingInChromium(t *testing.T) {
	chromium.WithAndWithoutScripts(t, func(t *testing.T, open func() *chromium.Tab) {
		issuer, _ := newWorld(t, withCarol)
		stranger := open()
		stranger.Visit(issuer + "/sign-in")
		stranger.Press(providerButton)
		signInAt(stranger, "alice")
		stranger.Shows("You do not have an account here yet")
		stranger.Shows("help@corp.example")

		b := open()
		signInLocally(b, issuer)
		b.Visit(issuer + "/account/linked")
		b.Press(providerButton)
		signInAt(b, "alice")
		b.Shows("The account is linked")
		b.Shows("alice@corp.example")

		stranger.Visit(issuer + "/sign-in")
		stranger.Press(providerButton)
		stranger.Has("#methods")
		stranger.Shows("Carol Local")

		b.Press("button[name=unlink]")
		b.Shows("No accounts are linked")
		stranger.Visit(issuer + "/account")
		stranger.Has("#identifier") // sessions that began with the link ended
	})
}

// An account that has the address already is not given away: its user signs in to it, and links the
// provider. The only way to sign in cannot be unlinked.
func TestAddressesInChromium(t *testing.T) {
	chromium.WithAndWithoutScripts(t, func(t *testing.T, open func() *chromium.Tab) {
		issuer, _ := newWorld(t, func(c *configuration.Configuration) {
			withCarol(c)
			c.IdentityProviders[0].Rule = "true"
			c.Users[0].Email, c.Users[0].EmailVerified = "alice@corp.example", verified()
		})
		b := open()
		b.Visit(issuer + "/sign-in")
		b.Press(providerButton)
		signInAt(b, "alice")
		b.Shows("You already have an account")
		b.Press("main a.button.secondary")
		b.Submit("#identifier", "carol", "#password", password)
		b.Has("#methods")

		only := open()
		only.Visit(issuer + "/sign-in")
		only.Press(providerButton)
		signInAt(only, "bob")
		only.Has("#methods")
		only.Visit(issuer + "/account/linked")
		only.Press("button[name=unlink]")
		only.Shows("This is the only way to sign in to your account")
	})
}

// Those who may not sign in, or may not use an application, learn why and who can help.
func TestRefusalsInChromium(t *testing.T) {
	chromium.WithAndWithoutScripts(t, func(t *testing.T, open func() *chromium.Tab) {
		issuer, _ := newWorld(t, nil) // one provider, and so no page in between
		b := open()
		b.Visit(issuer + "/sign-in")
		signInAt(b, "bob")
		b.Shows("You cannot sign in with Example Corp")
		b.Shows("Only staff may sign in.")
		b.Shows("help@corp.example")

		address, _, err := newClient(t, issuer, "payroll").AuthorizationURL(t.Context(), client.AuthorizationOptions{})
		if err != nil {
			t.Fatal(err)
		}
		b = open()
		b.Visit(address)
		signInAt(b, "alice")
		b.Shows("You do not have access to this application")
		b.Shows("admins@corp.example")
	})
}

// A session that the provider limits ends with its session_expiry.
func TestSessionExpiryInChromium(t *testing.T) {
	chromium.WithAndWithoutScripts(t, func(t *testing.T, open func() *chromium.Tab) {
		f := newFake(t)
		issuer := newServer(t, corp(f), nil)
		signIn := func(b *chromium.Tab, expiry time.Time) {
			f.claims = map[string]any{"sub": "1", "name": "Alice Example", "session_expiry": expiry.Unix()}
			b.Visit(issuer + "/sign-in")
			b.Press(providerButton)
		}
		b := open()
		signIn(b, time.Now().Add(time.Hour))
		b.Has("#methods")
		b = open()
		signIn(b, time.Now().Add(-time.Minute))
		b.Shows("We could not verify the response")
	})
}
