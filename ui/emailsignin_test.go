package ui

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valetkey/valetkey/identity"
)

func newWorldWithEmailSignIn(t *testing.T) *world {
	return newWorldWithMail(t, func(c *Config) { c.EmailSignIn = true })
}

// asksToSignIn asks for a message and returns the page that asks for the code.
func (b *browserClient) asksToSignIn(identifier string) response {
	b.t.Helper()
	return b.get(b.post(signInEmailPath, url.Values{"identifier": {identifier}}).redirected(b.t))
}

// In the browser that asked, one press signs in, however often programs have opened the link before.
func TestEmailSignInByLink(t *testing.T) {
	w := newWorldWithEmailSignIn(t)
	w.addVerifiedAlice()
	b := w.newBrowser()
	signIn := b.get(b.get(w.authorizeURL(nil)).redirected(t))
	signIn.want(t, 200, signInEmailPath)
	ask := b.get(signInEmailPath + "?interaction=" + signIn.hidden().Get("interaction"))
	b.get(b.post(signInEmailPath, with(ask.hidden(), "identifier", "alice@example.com")).redirected(t)).want(t, 200, "Code from the email")
	message := w.received()
	if message.To != "alice@example.com" || message.Subject() != "Sign in to Valetkey" {
		t.Errorf("the message is %s to %s", message.Subject(), message.To)
	}
	link := w.linkIn(message)
	w.scan(link)
	page := b.get(link)
	page.want(t, 200, "You requested this email in this browser")
	if strings.Contains(page.body, codeIn(t, message)) {
		t.Error("the page shows the code")
	}
	next := b.post(signInEmailLinkPath, page.hidden())
	next.want(t, http.StatusSeeOther)
	if !strings.Contains(next.Header.Get("Location"), "/consent") {
		t.Errorf("after the sign-in, the browser goes to %s", next.Header.Get("Location"))
	}
	if session := w.sessionOf(b); session.ACR != "1" || strings.Join(session.AMR, " ") != "otp" {
		t.Errorf("the session has acr %s and amr %v", session.ACR, session.AMR)
	}
	b.post(signInEmailLinkPath, page.hidden()).want(t, 404, "no longer valid")
	b.get(link).want(t, 404, "no longer valid")
}

func TestEmailSignInByCode(t *testing.T) {
	w := newWorldWithEmailSignIn(t)
	w.addVerifiedAlice()
	b, stranger := w.newBrowser(), w.newBrowser()
	page := b.asksToSignIn("alice")
	code := codeIn(t, w.received())
	stranger.get("/sign-in/email")
	stranger.post(signInEmailCodePath, with(page.hidden(), "code", code)).want(t, 404) // another browser's request
	for range 4 {
		b.post(signInEmailCodePath, with(page.hidden(), "code", "00000000")).want(t, 403, "incorrect")
	}
	b.post(signInEmailCodePath, with(page.hidden(), "code", code)).redirectedTo(t, "/account?signed_in=1")
	b.get("/account").want(t, 200, "alice")
	b.post("/sign-out", url.Values{})
	b.post(signInEmailCodePath, with(page.hidden(), "code", code)).want(t, 404)
}

// F-06: nobody else is signed in by a link: not who opens it first, nor who makes somebody else open it.
func TestEmailSignInInAnotherBrowser(t *testing.T) {
	w := newWorldWithEmailSignIn(t)
	w.addVerifiedAlice()
	mallory, alice := w.newBrowser(), w.newBrowser()
	asked := mallory.asksToSignIn("alice")
	message := w.received()
	link := w.linkIn(message)
	alice.asksToSignIn("bob") // Alice's browser has a secret of its own
	page := alice.get(link)
	page.want(t, 200, "requested in another browser", codeIn(t, message), "Do not give the code to anyone")
	token := regexp.MustCompile(`token=([^&]+)`).FindStringSubmatch(link)[1]
	alice.post(signInEmailLinkPath, url.Values{"token": {token}}).want(t, 403, "requested in another browser")
	alice.get("/account").redirectedTo(t, "/sign-in")
	mallory.get("/account").redirectedTo(t, "/sign-in")
	mallory.post(signInEmailLinkPath, asked.hidden()).want(t, 404)
	mallory.get("/account").redirectedTo(t, "/sign-in")
}

// A message is one factor: it does not replace the second one.
func TestEmailSignInDoesNotReplaceTheSecondFactor(t *testing.T) {
	w := newWorldWithEmailSignIn(t)
	w.addVerifiedAlice()
	b := w.newBrowser()
	b.signIn("alice", password)
	w.received() // about the new sign-in
	key := b.setsUpTOTP()
	w.received() // about the new method
	other := w.newBrowser()
	page := other.asksToSignIn("alice")
	code := codeIn(t, w.received())
	other.post(signInEmailCodePath, with(page.hidden(), "code", code)).redirectedTo(t, factorPath)
	other.get("/account").redirectedTo(t, "/sign-in")
	// A second message is not a second factor.
	page = other.asksToSignIn("alice")
	other.post(signInEmailCodePath, with(page.hidden(), "code", codeIn(t, w.received()))).redirectedTo(t, factorPath)
	other.get("/account").redirectedTo(t, "/sign-in")
	other.post(proveTOTPPath, url.Values{"code": {codeOf(t, key, 0)}}).redirectedTo(t, "/account?signed_in=1")
	if session := w.sessionOf(other); session.ACR != "2" {
		t.Errorf("the session has acr %s and amr %v", session.ACR, session.AMR)
	}
}

// Known and unknown accounts get the same responses; only the message differs.
func TestEmailSignInRevealsNothing(t *testing.T) {
	w := newWorldWithEmailSignIn(t)
	w.addVerifiedAlice()
	w.addUser(identity.User{ID: "u", Username: "unverified", PasswordHash: passwordHash(), Claims: map[string]any{"email": "u@example.com"}})
	w.addUser(identity.User{ID: "d", Username: "disabled", Disabled: true, Claims: map[string]any{"email": "d@example.com", "email_verified": true}})
	random := regexp.MustCompile(`request" value="[^"]*"`)
	first := ""
	for _, name := range []string{"alice", "unknown", "unverified", "disabled", "not a name\x00", strings.Repeat("x", 300)} {
		b := w.newBrowser()
		page := b.asksToSignIn(name)
		body := random.ReplaceAllString(page.body, "")
		if first == "" {
			first = body
		}
		if page.StatusCode != 200 || body != first {
			t.Errorf("%.20q: status %d:\n%s", name, page.StatusCode, page.body)
		}
		b.post(signInEmailCodePath, with(page.hidden(), "code", "12345678")).want(t, 403, "incorrect")
	}
	if m := w.received(); m.To != "alice@example.com" {
		t.Errorf("a message went to %s", m.To)
	}
	w.noMessage()
}

// F-07: a stranger cannot flood the mailbox, nor use up the messages of the user's own device or of
// another network.
func TestEmailSignInMessagesAreLimited(t *testing.T) {
	w := newWorldWithEmailSignIn(t)
	w.addVerifiedAlice()
	owner := w.newBrowser()
	owner.signIn("alice", password)
	owner.post("/sign-out", url.Values{})
	w.received() // about the new sign-in
	for range 20 {
		w.newBrowser().asksToSignIn("alice").want(t, 200)
	}
	if err := w.outbox.Deliver(t.Context()); err != nil {
		t.Fatal(err)
	}
	sent := 0
	for len(w.mail.Received()) > 0 {
		w.mail.Next()
		sent++
	}
	if sent > 3 {
		t.Errorf("a stranger caused %d messages", sent)
	}
	page := owner.asksToSignIn("alice")
	owner.post(signInEmailCodePath, with(page.hidden(), "code", codeIn(t, w.received()))).redirectedTo(t, "/account?signed_in=1")
}

// Parallel requests with the same proof sign in once.
func TestEmailSignInIsSingleUse(t *testing.T) {
	w := newWorldWithEmailSignIn(t)
	w.addVerifiedAlice()
	b := w.newBrowser()
	b.asksToSignIn("alice")
	link := b.get(w.linkIn(w.received()))
	var requests sync.WaitGroup
	var in atomic.Int64
	for range 8 {
		requests.Go(func() {
			if resp := b.post(signInEmailLinkPath, link.hidden()); resp.StatusCode == http.StatusSeeOther {
				in.Add(1)
			}
		})
	}
	requests.Wait()
	if in.Load() != 1 {
		t.Errorf("the link signed in %d times", in.Load())
	}
}

// The message is of no use after the address was changed, everything of the user ended, or the user
// was disabled.
func TestEmailSignInEndsWithTheAddress(t *testing.T) {
	for name, change := range map[string]func(*identity.User){
		"address":  func(u *identity.User) { u.Claims["email"] = "other@example.com" },
		"disabled": func(u *identity.User) { u.Disabled = true },
		"verified": func(u *identity.User) { u.Claims["email_verified"] = false },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorldWithEmailSignIn(t)
			w.addVerifiedAlice()
			b := w.newBrowser()
			page := b.asksToSignIn("alice")
			code := codeIn(t, w.received())
			w.updateUser("a", change)
			b.post(signInEmailCodePath, with(page.hidden(), "code", code)).want(t, 404)
			b.get("/account").redirectedTo(t, "/sign-in")
		})
	}
}

// Without the setting, there is nothing of it.
func TestEmailSignInIsOff(t *testing.T) {
	w := newWorldWithMail(t, func(*Config) {})
	w.addVerifiedAlice()
	b := w.newBrowser()
	if page := b.get("/sign-in"); strings.Contains(page.body, signInEmailPath) {
		t.Error("the sign-in page offers it")
	}
	for _, path := range []string{signInEmailPath, signInEmailCodePath + "?request=x", signInEmailLinkPath + "?token=x"} {
		b.get(path).want(t, 404)
	}
	for _, path := range []string{signInEmailPath, signInEmailCodePath, signInEmailLinkPath} {
		b.post(path, url.Values{"identifier": {"alice"}, "request": {"x"}, "token": {"x"}, "code": {"x"}}).want(t, 404)
	}
	w.noMessage()
}

// signedInBefore gives the browser a session of a user who proved a method some time ago.
func (b *browserClient) signedInBefore(user *identity.User, method identity.Method, ago time.Duration) {
	b.t.Helper()
	at := time.Now().Add(-ago)
	details := identity.SessionDetails{AuthTime: at, Proofs: []identity.ProvedMethod{{Method: method, At: at}}}
	secret, _, err := b.accounts.StartSession(b.t.Context(), at, user, details, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	response := httptest.NewRecorder()
	identity.SetSessionCookie(response, b.url, secret)
	u, err := url.Parse(b.url)
	if err != nil {
		b.t.Fatal(err)
	}
	b.client.Jar.SetCookies(u, response.Result().Cookies())
}

// A user without a password proves with a message again who they are, before they change something.
func TestEmailSignInConfirmsChanges(t *testing.T) {
	w := newWorldWithEmailSignIn(t)
	user := w.addVerifiedAlice()
	w.updateUser(user.ID, func(u *identity.User) { u.PasswordHash = "" })
	b := w.newBrowser()
	page := b.asksToSignIn("alice")
	b.post(signInEmailCodePath, with(page.hidden(), "code", codeIn(t, w.received()))).want(t, http.StatusSeeOther)
	w.received() // about the new sign-in
	confirm := b.get(confirmPath + "?return=%2Faccount%2Ftotp%2Fnew")
	if strings.Contains(confirm.body, signInEmailPath) {
		t.Error("the proof is recent, and the page asks for it again")
	}
	b.signedInBefore(user, identity.MethodEmail, 10*time.Minute)
	confirm = b.get(b.get(newTOTPPath).redirected(t))
	confirm.want(t, 200, signInEmailPath+"?return=")
	ask := b.get(signInEmailPath + "?return=%2Faccount%2Ftotp%2Fnew")
	ask.want(t, 200, `value="alice"`)
	page = b.get(b.post(signInEmailPath, with(ask.hidden(), "identifier", "alice")).redirected(t))
	b.post(signInEmailCodePath, with(page.hidden(), "code", codeIn(t, w.received()))).redirectedTo(t, newTOTPPath)
	b.get(newTOTPPath).want(t, 200)
}
