package ui

import (
	"bytes"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/internal/chromium"
	"github.com/valetkey/valetkey/internal/mailtest"
)

const newPassword = "a lighthouse keeper's cat"

// received delivers the waiting messages and returns the next one.
func (w *world) received() *mailtest.Message {
	w.t.Helper()
	if err := w.outbox.Deliver(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	return w.mail.Next()
}

// noMessage fails if there is a message.
func (w *world) noMessage() {
	w.t.Helper()
	if err := w.outbox.Deliver(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	w.mail.None()
}

var mailedCode = regexp.MustCompile(`Your code: (\d{4} \d{4})`)

// codeIn returns the code of a message.
func codeIn(t *testing.T, m *mailtest.Message) string {
	t.Helper()
	match := mailedCode.FindStringSubmatch(m.Text)
	if match == nil {
		t.Fatalf("the message has no code:\n%s", m.Text)
	}
	return match[1]
}

// linkIn returns the path and query of the link of a message, which is the same in both parts.
func (w *world) linkIn(m *mailtest.Message) string {
	w.t.Helper()
	match := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(w.url) + `(/\S+)$`).FindStringSubmatch(m.Text)
	if match == nil {
		w.t.Fatalf("the message has no link:\n%s", m.Text)
	}
	if !strings.Contains(m.HTML, strings.ReplaceAll(match[1], "&", "&amp;")) {
		w.t.Errorf("the HTML lacks the link %s:\n%s", match[1], m.HTML)
	}
	return match[1]
}

func (w *world) addVerifiedAlice() *identity.User {
	return w.addUser(identity.User{ID: "a", Username: "alice", PasswordHash: passwordHash(), Claims: map[string]any{"email": "alice@example.com", "email_verified": true}})
}

// asksForReset asks for a new password and returns the page that asks for the code.
func (b *browserClient) asksForReset(identifier string) response {
	b.t.Helper()
	return b.get(b.post("/forgot", url.Values{"identifier": {identifier}}).redirected(b.t))
}

// scan fetches a link as programs do that look for malware: with HEAD and GET, without cookies.
func (w *world) scan(link string) {
	w.t.Helper()
	scanner := w.newBrowser()
	for _, method := range []string{"HEAD", "GET", "HEAD", "GET"} {
		if resp := scanner.do(scanner.request(method, link, nil)); resp.StatusCode != 200 {
			w.t.Errorf("%s %s: %d", method, link, resp.StatusCode)
		} else if len(resp.Cookies()) > 0 {
			w.t.Errorf("a scanner gets the cookies %v", resp.Cookies())
		}
	}
}

// In the browser that asked, the link leads to the new password without a code, however often it
// was fetched before. All sessions end, and the link works once.
func TestResetByLink(t *testing.T) {
	w := newWorldWithMail(t, func(*Config) {})
	w.addVerifiedAlice()
	elsewhere := w.newBrowser()
	elsewhere.signIn("alice", password)
	w.received() // about the new sign-in
	b := w.newBrowser()
	b.get("/sign-in").want(t, 200, "Forgot your password?")
	b.asksForReset("alice@example.com").want(t, 200, "Choose a new password", "Code from the email")
	message := w.received()
	if message.To != "alice@example.com" || !strings.Contains(message.Text, "Hello alice") {
		t.Errorf("the message is to %s:\n%s", message.To, message.Text)
	}
	link := w.linkIn(message)
	w.scan(link)
	page := b.get(link)
	page.want(t, 200, "New password", `value="alice"`)
	if strings.Contains(page.body, "Code from the email") {
		t.Error("the browser that asked has to enter the code")
	}
	b.post("/reset", with(page.hidden(), "new", "short")).want(t, 400, "Use at least 15 characters")
	b.post("/reset", with(page.hidden(), "new", newPassword)).want(t, 200, "Your password has been changed", "Sign in")
	b.post("/reset", with(page.hidden(), "new", "another password of a stranger")).want(t, 404, "no longer valid")
	b.get(link).want(t, 404, "no longer valid")
	b.get("/account").redirectedTo(t, "/sign-in") // it does not sign in
	elsewhere.get("/account").redirectedTo(t, "/sign-in")
	if notice := w.received(); notice.Subject() != "Your password was changed" {
		t.Errorf("the notice is %s", notice.Subject())
	}
	b.signIn("alice", password).want(t, 403)
	b.signIn("alice", newPassword).redirectedTo(t, "/account?signed_in=1")
}

// The code works in the browser that asked, and five wrong ones end only its own request.
func TestResetByCode(t *testing.T) {
	w := newWorldWithMail(t, func(*Config) {})
	w.addVerifiedAlice()
	stranger, alice := w.newBrowser(), w.newBrowser()
	strangers := stranger.asksForReset("alice")
	w.received()
	page := alice.asksForReset("alice")
	code := codeIn(t, w.received())
	// The stranger knows neither code, not even that of the other request.
	for range 5 {
		stranger.post("/reset", with(strangers.hidden(), "code", "0000 0000", "new", newPassword)).want(t, 403, "incorrect")
	}
	stranger.post("/reset", with(strangers.hidden(), "code", code, "new", newPassword)).want(t, 404)
	stranger.post("/reset", with(page.hidden(), "code", code, "new", newPassword)).want(t, 404) // another browser's request
	alice.post("/reset", with(page.hidden(), "code", "1111 1111", "new", newPassword)).want(t, 403, "incorrect")
	alice.post("/reset", with(page.hidden(), "code", code, "new", "alice")).want(t, 400)
	alice.post("/reset", with(page.hidden(), "code", " "+strings.ReplaceAll(code, " ", "-"), "new", newPassword)).want(t, 200, "has been changed")
	alice.signIn("alice", newPassword).redirectedTo(t, "/account?signed_in=1")
}

// Parallel guesses are counted before they are compared.
func TestResetCodeAttemptsInParallel(t *testing.T) {
	w := newWorldWithMail(t, func(*Config) {})
	w.addVerifiedAlice()
	b := w.newBrowser()
	page := b.asksForReset("alice")
	var guessing sync.WaitGroup
	var mu sync.Mutex
	statuses := map[int]int{}
	for range 40 {
		guessing.Go(func() {
			resp := b.post("/reset", with(page.hidden(), "code", "12121212", "new", newPassword))
			mu.Lock()
			defer mu.Unlock()
			statuses[resp.StatusCode]++
		})
	}
	guessing.Wait()
	if statuses[403] != 5 || statuses[404] != 35 {
		t.Errorf("the statuses of 40 guesses are %v, want five that were compared", statuses)
	}
}

// Another browser must enter the code, so a link that leaks, or is opened by a program that runs
// scripts and presses buttons, is not enough. The browser that asked is not signed in by it.
func TestResetInAnotherBrowser(t *testing.T) {
	w := newWorldWithMail(t, func(*Config) {})
	w.addVerifiedAlice()
	asked, phone := w.newBrowser(), w.newBrowser()
	asked.asksForReset("alice")
	message := w.received()
	page := phone.get(w.linkIn(message))
	page.want(t, 200, "requested in another browser", "Code from the email")
	if strings.Contains(page.body, codeIn(t, message)) || strings.Contains(page.body, `value="alice"`) {
		t.Error("the page of the link shows the code or the username")
	}
	phone.post("/reset", with(page.hidden(), "new", newPassword)).want(t, 403, "incorrect")
	phone.post("/reset", with(page.hidden(), "code", "00000000", "new", newPassword)).want(t, 403, "incorrect")
	phone.post("/reset", with(page.hidden(), "code", codeIn(t, message), "new", newPassword)).want(t, 200, "has been changed")
	asked.get("/account").redirectedTo(t, "/sign-in")
	phone.get("/account").redirectedTo(t, "/sign-in")
}

// Known and unknown accounts get the same responses; only the message differs.
func TestResetRevealsNothing(t *testing.T) {
	w := newWorldWithMail(t, func(*Config) {})
	w.addVerifiedAlice()
	w.addUser(identity.User{ID: "u", Username: "unverified", PasswordHash: passwordHash(), Claims: map[string]any{"email": "u@example.com"}})
	w.addUser(identity.User{ID: "d", Username: "disabled", Disabled: true, PasswordHash: passwordHash(), Claims: map[string]any{"email": "d@example.com", "email_verified": true}})
	w.addUser(identity.User{ID: "n", Username: "nopassword", Claims: map[string]any{"email": "n@example.com", "email_verified": true}})
	w.addUser(identity.User{ID: "j", Username: "undeliverable", PasswordHash: passwordHash(), Claims: map[string]any{"email": "jörg@example.com", "email_verified": true}})
	random := regexp.MustCompile(`request" value="[^"]*"`)
	var first []string
	for _, name := range []string{"alice", "unknown", "unverified", "disabled", "nopassword", "undeliverable", "not a name\x00", strings.Repeat("x", 300)} {
		b := w.newBrowser()
		redirect := b.post("/forgot", url.Values{"identifier": {name}})
		page := b.get(redirect.redirected(t))
		wrong := b.post("/reset", with(page.hidden(), "code", "00000000", "new", newPassword))
		got := []string{redirect.Status, page.Status, random.ReplaceAllString(page.body, ""), wrong.Status, random.ReplaceAllString(wrong.body, "")}
		if first == nil {
			first = got
		} else if strings.Join(first, "\n") != strings.Join(got, "\n") {
			t.Errorf("%.20q is distinguishable from alice", name)
		}
		if name == "alice" {
			w.received()
		} else {
			w.noMessage()
		}
	}
}

// addresses returns a RemoteAddr with a new address for each request.
func addresses() func(*http.Request) netip.Addr {
	var n atomic.Uint32
	return func(*http.Request) netip.Addr {
		i := n.Add(1)
		return netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)})
	}
}

// A stranger who asks for as many messages as possible neither fills the mailbox nor locks the user
// out: there is always a valid message, and a device that the user knows gets its own.
func TestResetCannotBeExhausted(t *testing.T) {
	w := newWorldWithMail(t, func(*Config) {})
	w.addVerifiedAlice()
	own := w.newBrowser()
	own.signIn("alice", password)
	w.received() // about the new sign-in
	own.post("/sign-out", own.get("/sign-out").hidden())
	w.ui.config.RemoteAddr = addresses()
	sent := 0
	var last *mailtest.Message
	for range 30 {
		w.newBrowser().asksForReset("alice").want(t, 200)
		if err := w.outbox.Deliver(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for len(w.mail.Received()) > 0 {
		last = <-w.mail.Received()
		sent++
	}
	if sent != 4 {
		t.Errorf("30 requests of strangers send %d messages, want 4", sent)
	}
	own.asksForReset("alice")
	w.received()
	// What a stranger caused is of use to the user.
	phone := w.newBrowser()
	page := phone.get(w.linkIn(last))
	phone.post("/reset", with(page.hidden(), "code", codeIn(t, last), "new", newPassword)).want(t, 200, "has been changed")
}

// A message is of no use after the password or the address was changed.
func TestResetEndsWithAChange(t *testing.T) {
	for name, change := range map[string]func(*identity.User){
		"password": func(u *identity.User) { u.PasswordHash = strings.Replace(u.PasswordHash, "$", "$", 1) + "x" },
		"address":  func(u *identity.User) { u.Claims["email"] = "alice@example.org" },
		"disabled": func(u *identity.User) { u.Disabled = true },
		"ended":    func(u *identity.User) { u.End(time.Now(), nil) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorldWithMail(t, func(*Config) {})
			w.addVerifiedAlice()
			b := w.newBrowser()
			page := b.asksForReset("alice")
			code := codeIn(t, w.received())
			w.updateUser("a", change)
			b.post("/reset", with(page.hidden(), "code", code, "new", newPassword)).want(t, 404)
		})
	}
}

// Several tabs of a browser ask at the same time; each message works.
func TestResetInSeveralTabs(t *testing.T) {
	w := newWorldWithMail(t, func(*Config) {})
	w.addVerifiedAlice()
	b := w.newBrowser()
	b.asksForReset("alice")
	first := w.received()
	second := b.asksForReset("alice")
	w.received()
	if page := b.get(w.linkIn(first)); strings.Contains(page.body, "another browser") {
		t.Error("the link of the first tab is taken for one of another browser")
	}
	b.post("/reset", with(second.hidden(), "code", codeIn(t, first), "new", newPassword)).want(t, 403, "incorrect")
	page := b.get(w.linkIn(first))
	b.post("/reset", with(page.hidden(), "new", newPassword)).want(t, 200)
}

// The link leads to the configured origin, whatever host the request was for.
func TestMailedLinksIgnoreHost(t *testing.T) {
	w := newWorldWithMail(t, func(*Config) {})
	w.addVerifiedAlice()
	b := w.newBrowser()
	r := b.request("POST", "/forgot", url.Values{"identifier": {"alice"}})
	r.Host = "evil.example"
	r.Header.Set("X-Forwarded-Host", "evil.example")
	b.do(r)
	if m := w.received(); strings.Contains(m.Text+m.HTML, "evil.example") {
		t.Errorf("the message is %s", m.Text)
	}
}

// An application that waits gets its user back.
func TestResetForAnApplication(t *testing.T) {
	w := newWorldWithMail(t, func(*Config) {})
	w.addVerifiedAlice()
	b := w.newBrowser()
	signIn := b.get(b.get(b.authorizeURL(nil)).redirected(t))
	forgot := b.get(strings.ReplaceAll(regexp.MustCompile(`href="(/forgot[^"]*)"`).FindStringSubmatch(signIn.body)[1], "&amp;", "&"))
	b.get(b.post("/forgot", with(forgot.hidden(), "identifier", "alice")).redirected(t))
	page := b.get(w.linkIn(w.received()))
	done := b.post("/reset", with(page.hidden(), "new", newPassword))
	again := b.get(strings.ReplaceAll(regexp.MustCompile(`href="(/sign-in[^"]*)"`).FindStringSubmatch(done.body)[1], "&amp;", "&"))
	b.get(b.post("/sign-in", with(again.hidden(), "identifier", "alice", "password", newPassword)).redirected(t)).want(t, 200, "wants access")
}

func TestResetCanBeOff(t *testing.T) {
	w := newWorldWithMail(t, func(c *Config) { c.PasswordReset = false })
	w.addVerifiedAlice()
	b := w.newBrowser()
	b.get("/forgot").want(t, 404)
	b.post("/forgot", url.Values{"identifier": {"alice"}}).want(t, 404)
	b.post("/reset", url.Values{"request": {"x"}, "new": {newPassword}}).want(t, 404)
	if page := b.get("/sign-in"); strings.Contains(page.body, "Forgot") {
		t.Error("the sign-in page leads to a page that does not exist")
	}
	w.noMessage()
}

func TestWellKnownChangePassword(t *testing.T) {
	w := newWorld(t)
	w.addAlice()
	b := w.newBrowser()
	if resp := b.get("/.well-known/change-password"); resp.StatusCode != 302 || resp.Header.Get("Location") != "/account/password" {
		t.Errorf("%d %s", resp.StatusCode, resp.Header.Get("Location"))
	}
	without := newWorldWith(t, func(c *Config) { c.NoPasswords = true }, func(*authserver.Config) {})
	without.newBrowser().get("/.well-known/change-password").want(t, 404)
}

// The address of a new account counts only when the user has proved it, with the code.
func TestSignUpVerifiesTheAddress(t *testing.T) {
	w := newWorldWithMail(t, func(*Config) {})
	b := w.newBrowser()
	page := b.get("/sign-up")
	b.post("/sign-up", with(page.hidden(), "username", "carol", "email", "no address", "password", password)).want(t, 400, `role="alert"`)
	code := b.get(b.post("/sign-up", with(page.hidden(), "username", "carol", "email", "carol@example.com", "password", password)).redirected(t))
	code.want(t, 200, "Confirm your email address")
	carol, err := w.store.UserByIdentifier(t.Context(), "carol")
	if err != nil || carol.Email() != "" {
		t.Fatalf("before the proof, the user is %+v, %v", carol, err)
	}
	b.get("/account").want(t, 200, "waiting for you to confirm", "carol@example.com")
	w.newBrowser().signIn("carol@example.com", password).want(t, 403)
	message := w.received()
	if strings.Contains(message.Text, "carol,") {
		t.Error("a message to an address that is not verified contains the name that a stranger may have chosen")
	}
	b.post("/account/email/code", with(code.hidden(), "code", "00000000")).want(t, 403, "incorrect")
	b.post("/account/email/code", with(code.hidden(), "code", codeIn(t, message))).redirectedTo(t, "/account")
	b.get("/account").want(t, 200, "Your email address is confirmed", "Confirmed")
	carol, err = w.store.UserByIdentifier(t.Context(), "carol@example.com")
	if err != nil || !carol.EmailVerified() {
		t.Errorf("after the proof, the user is %+v, %v", carol, err)
	}
	w.newBrowser().signIn("carol@example.com", password).redirectedTo(t, "/account?signed_in=1")
}

// A stranger who signs up with the address of another user learns nothing and gets nothing. In
// another browser than the stranger's, the link only shows the code.
func TestSignUpWithAForeignAddress(t *testing.T) {
	w := newWorldWithMail(t, func(*Config) {})
	w.addVerifiedAlice()
	mallory := w.newBrowser()
	mallory.get(mallory.post("/sign-up", url.Values{"username": {"mallory"}, "email": {"alice@example.com"}, "password": {password}}).redirected(t)).want(t, 200, "We have sent you an email")
	if m := w.received(); m.Subject() != "You already have an account" || !strings.Contains(m.Text, "alice") || strings.Contains(m.Text, "mallory") || strings.Contains(m.Text, "token=") {
		t.Errorf("the owner gets %s:\n%s", m.Subject(), m.Text)
	}
	// bob has no account.
	mallory.get(mallory.post("/account/email", url.Values{"email": {"bob@example.com"}, "current": {password}}).redirected(t)).want(t, 200, "We have sent you an email")
	message := w.received()
	bob := w.newBrowser()
	w.scan(w.linkIn(message))
	page := bob.get(w.linkIn(message))
	page.want(t, 200, "requested in another browser", codeIn(t, message), "Do not give the code to anyone")
	token, err := url.Parse(w.linkIn(message))
	if err != nil {
		t.Fatal(err)
	}
	bob.post("/confirm-email", url.Values{"token": {token.Query().Get("token")}}).want(t, 200, "requested in another browser")
	if len(bob.client.Jar.Cookies(token)) > 0 {
		t.Error("whoever opens the link gets cookies")
	}
	if _, err := w.store.UserByIdentifier(t.Context(), "bob@example.com"); err == nil {
		t.Error("the stranger's account has the address")
	}
	// The owner of the address can create an account, and the stranger's request is then void.
	bob.post("/sign-up", url.Values{"username": {"bob"}, "email": {"bob@example.com"}, "password": {password}})
	own := w.received()
	bob.post("/confirm-email", bob.get(w.linkIn(own)).hidden()).redirectedTo(t, "/account")
	asked := mallory.get(w.linkIn(message))
	mallory.post("/confirm-email", asked.hidden()).want(t, 409, "belongs to another account")
}

// A new address needs the password, becomes effective when it is proved, and the former address can
// undo it, even after the stranger has changed everything and ended all sessions.
func TestChangeOfAddressAndUndo(t *testing.T) {
	w := newWorldWithMail(t, func(*Config) {})
	w.addVerifiedAlice()
	thief := w.newBrowser()
	thief.signIn("alice", password)
	w.received() // about the new sign-in
	thief.post("/account/email", url.Values{"email": {"thief@example.com"}, "current": {"wrong password"}}).want(t, 403, "current password is incorrect")
	thief.post("/account/email", url.Values{"email": {"thief@example.com\r\nBcc: x@example.com"}, "current": {password}}).want(t, 400)
	w.noMessage()
	change := func(to string) (undo string) {
		thief.post("/account/email", url.Values{"email": {to}, "current": {password}})
		thief.post("/confirm-email", thief.get(w.linkIn(w.received())).hidden()).redirectedTo(t, "/account")
		notice := w.received()
		if notice.Subject() != "Your email address was changed" || !strings.Contains(notice.Text, to) {
			t.Errorf("the former address gets %s:\n%s", notice.Subject(), notice.Text)
		}
		return w.linkIn(notice)
	}
	undo := change("thief@example.com")
	if user, err := w.store.UserByIdentifier(t.Context(), "thief@example.com"); err != nil || !user.EmailVerified() {
		t.Fatal("the change has no effect")
	}
	thiefsUndo := change("thief@example.net")
	thief.post("/account/password", url.Values{"current": {password}, "new": {newPassword}, "end-others": {"on"}})
	w.received()
	// The thief's own link must not make the user's unusable.
	page := thief.get(thiefsUndo)
	page.want(t, 200, "thief@example.com")
	thief.post("/undo-email", page.hidden()).want(t, 200, "undone")
	w.scan(undo)
	alice := w.newBrowser()
	page = alice.get(undo)
	page.want(t, 200, "alice@example.com", "Undo the change")
	alice.post("/undo-email", page.hidden()).want(t, 200, "undone", "Choose a new password")
	alice.post("/undo-email", page.hidden()).want(t, 404)
	thief.get("/account").redirectedTo(t, "/sign-in")
	if user, err := w.store.UserByIdentifier(t.Context(), "alice@example.com"); err != nil || user.ID != "a" || !user.EmailVerified() {
		t.Errorf("the user is %+v, %v", user, err)
	}
	reset := alice.asksForReset("alice")
	alice.post("/reset", with(reset.hidden(), "code", codeIn(t, w.received()), "new", "a third password of alice")).want(t, 200)
}

// An account that has an address without verification cannot keep it from its owner, and loses
// nothing else.
func TestAnUnverifiedAddressGoesToWhoVerifiesIt(t *testing.T) {
	w := newWorldWithMail(t, func(c *Config) {
		c.SignUp, c.SignUpRequires, c.SignUpEmailDomains = true, SignUpEmailDomain, []string{"example.org"}
	})
	w.addVerifiedAlice()
	w.addUser(identity.User{ID: "m", Username: "mallory", PasswordHash: passwordHash(), Origin: identity.OriginSignedUp, Claims: map[string]any{"email": "alice@example.net"}})
	w.addUser(identity.User{ID: "n", Username: "nina", PasswordHash: passwordHash(), Origin: identity.OriginSignedUp, Claims: map[string]any{"email": "bob@example.org"}})
	alice := w.newBrowser()
	alice.signIn("alice", password)
	w.received() // about the new sign-in
	alice.post("/account/email", url.Values{"email": {"alice@example.net"}, "current": {password}})
	link := w.linkIn(w.received())
	if user, err := w.store.UserByIdentifier(t.Context(), "alice@example.net"); err != nil || user.ID != "m" {
		t.Errorf("before the proof, the address belongs to %+v, %v", user, err)
	}
	alice.post("/confirm-email", alice.get(link).hidden()).redirectedTo(t, "/account")
	if user, err := w.store.UserByIdentifier(t.Context(), "alice@example.net"); err != nil || user.ID != "a" || !user.EmailVerified() {
		t.Errorf("after the proof, the address belongs to %+v, %v", user, err)
	}
	mallory := w.newBrowser()
	mallory.signIn("mallory", password)
	if page := mallory.get("/account"); !strings.Contains(page.body, "mallory") || strings.Contains(page.body, "alice@example.net") {
		t.Errorf("the account page is %s", page.body)
	}
	w.received() // to the former address of alice

	bob := w.newBrowser()
	bob.post("/sign-up/email", url.Values{"email": {"bob@example.org"}})
	link = w.linkIn(w.received())
	bob.post("/sign-up", with(bob.get(link).hidden(), "username", "bob", "password", newPassword)).redirected(t)
	if user, err := w.store.UserByIdentifier(t.Context(), "bob@example.org"); err != nil || user.Username != "bob" || !user.EmailVerified() {
		t.Errorf("after the sign-up, the address belongs to %+v, %v", user, err)
	}
}

// The operator manages the address of a declared user, who can still confirm it.
func TestDeclaredAddress(t *testing.T) {
	w := newWorldWithMail(t, func(*Config) {})
	w.addUser(identity.User{ID: "a", Username: "alice", PasswordHash: passwordHash(), Origin: identity.OriginDeclared, Claims: map[string]any{"email": "alice@example.com"}})
	b := w.newBrowser()
	b.signIn("alice", password)
	w.noMessage() // the address is not confirmed
	b.get("/account").want(t, 200, "Not confirmed")
	b.post("/account/email", url.Values{"email": {"other@example.com"}, "current": {password}}).want(t, 400, "The people who run this service manage")
	b.post("/account/email", url.Values{"email": {"alice@example.com"}, "current": {password}})
	b.post("/confirm-email", b.get(w.linkIn(w.received())).hidden()).redirectedTo(t, "/account")
	w.noMessage()
	if user, err := w.store.UserByIdentifier(t.Context(), "alice"); err != nil || !user.EmailVerified() {
		t.Error("the address is not verified")
	}
}

// A sign-in in a browser that the account was not used in before is reported, once.
func TestNoticeOfANewSignIn(t *testing.T) {
	w := newWorldWithMail(t, func(*Config) {})
	w.addVerifiedAlice()
	b := w.newBrowser()
	b.signIn("alice", password)
	notice := w.received()
	if notice.Subject() != "New sign-in to your account" || !strings.Contains(notice.Text, "Network address: 127.0.0.1") {
		t.Errorf("the notice is %s:\n%s", notice.Subject(), notice.Text)
	}
	b.post("/sign-out", b.get("/sign-out").hidden())
	b.signIn("alice", password).redirectedTo(t, "/account?signed_in=1")
	w.noMessage()
}

// Where an invitation is required, there is no other way to get an account, and each works once.
func TestSignUpByInvitation(t *testing.T) {
	w := newWorldWithMail(t, func(c *Config) { c.SignUpRequires = SignUpInvitation })
	b := w.newBrowser()
	if page := b.get("/sign-in"); strings.Contains(page.body, "Create an account") {
		t.Error("the sign-in page invites everyone")
	}
	b.get("/sign-up").want(t, 403, "You need an invitation")
	b.post("/sign-up", url.Values{"username": {"carol"}, "password": {password}}).want(t, 403, "You need an invitation")
	b.post("/sign-up", url.Values{"username": {"carol"}, "password": {password}, "invitation": {"made-up"}}).want(t, 404)
	b.post("/sign-up", url.Values{"username": {"carol"}, "password": {password}, "request": {"made-up"}}).want(t, 403)
	token, err := w.accounts.Invite(t.Context(), time.Now(), "", time.Hour, InvitationPath)
	if err != nil {
		t.Fatal(err)
	}
	w.scan(InvitationPath(token))
	page := b.get(InvitationPath(token))
	page.want(t, 200, "Create an account")
	b.post("/sign-up", with(page.hidden(), "username", "carol", "password", "short")).want(t, 400)
	b.post("/sign-up", with(page.hidden(), "username", "carol", "password", password)).redirectedTo(t, "/account")
	w.newBrowser().post("/sign-up", with(page.hidden(), "username", "dave", "password", password)).want(t, 404, "no longer valid")
	// An invitation by mail proves the address.
	if _, err := w.accounts.Invite(t.Context(), time.Now(), "erin@example.com", time.Hour, InvitationPath); err != nil {
		t.Fatal(err)
	}
	erin := w.newBrowser()
	page = erin.get(w.linkIn(w.received()))
	page.want(t, 200, "erin@example.com")
	erin.post("/sign-up", with(page.hidden(), "username", "erin", "password", password)).redirectedTo(t, "/account")
	if user, err := w.store.UserByIdentifier(t.Context(), "erin@example.com"); err != nil || user.Username != "erin" || !user.EmailVerified() {
		t.Errorf("the invited user is %+v, %v", user, err)
	}
}

// Where a domain is required, the address is proved before there is an account.
func TestSignUpByDomain(t *testing.T) {
	w := newWorldWithMail(t, func(c *Config) {
		c.SignUpRequires, c.SignUpEmailDomains = SignUpEmailDomain, []string{"example.com"}
	})
	w.addVerifiedAlice()
	b := w.newBrowser()
	page := b.get("/sign-up")
	page.want(t, 200, "Send the email")
	for _, address := range []string{"eve@evil.example", "eve@example.com.evil.example", "eve@sub.example.com", "eve@example.com@evil.example"} {
		if resp := b.post("/sign-up/email", with(page.hidden(), "email", address)); resp.StatusCode != 403 && resp.StatusCode != 400 {
			t.Errorf("%s: %d", address, resp.StatusCode)
		}
	}
	b.post("/sign-up", url.Values{"username": {"eve"}, "password": {password}, "email": {"eve@example.com"}}).want(t, 200, "Send the email")
	w.noMessage()
	form := b.get(b.post("/sign-up/email", with(page.hidden(), "email", "carol@EXAMPLE.com")).redirected(t))
	form.want(t, 200, "Code from the email", "Username")
	message := w.received()
	b.post("/sign-up", with(form.hidden(), "username", "carol", "password", password, "code", "00000000")).want(t, 403, "incorrect")
	b.post("/sign-up", with(form.hidden(), "username", "carol", "password", password, "code", codeIn(t, message))).redirectedTo(t, "/account")
	if user, err := w.store.UserByIdentifier(t.Context(), "carol@example.com"); err != nil || user.Username != "carol" || !user.EmailVerified() {
		t.Errorf("the user is %+v, %v", user, err)
	}
	// With the link: no code in the same browser, the code in another.
	d := w.newBrowser()
	d.get(d.post("/sign-up/email", url.Values{"email": {"dave@example.com"}}).redirected(t))
	message = w.received()
	w.scan(w.linkIn(message))
	other := w.newBrowser()
	page = other.get(w.linkIn(message))
	page.want(t, 200, "requested in another browser", "Code from the email")
	other.post("/sign-up", with(page.hidden(), "username", "thief", "password", password)).want(t, 403, "incorrect")
	page = d.get(w.linkIn(message))
	d.post("/sign-up", with(page.hidden(), "username", "dave", "password", password)).redirectedTo(t, "/account")
	// An address that has an account gets the same pages.
	e := w.newBrowser()
	e.get(e.post("/sign-up/email", url.Values{"email": {"alice@example.com"}}).redirected(t)).want(t, 200, "Code from the email")
	if m := w.received(); m.Subject() != "You already have an account" {
		t.Errorf("the owner gets %s", m.Subject())
	}
}

// No secret of a message is in the database.
func TestMailedSecretsAreNotStored(t *testing.T) {
	w := newWorldWithMail(t, func(*Config) {})
	w.addVerifiedAlice()
	b := w.newBrowser()
	b.asksForReset("alice")
	m := w.received()
	token, err := url.Parse(w.linkIn(m))
	if err != nil {
		t.Fatal(err)
	}
	tickets, err := w.store.FindFamily(t.Context(), time.Now(), identity.SessionFamily("a"), "mailed proof", 10)
	requests, err2 := w.store.FindFamily(t.Context(), time.Now(), identity.SessionFamily("a"), "mail request", 10)
	if err != nil || err2 != nil || len(tickets) != 1 || len(requests) != 1 {
		t.Fatal(tickets, requests, err, err2)
	}
	for _, ticket := range append(tickets, requests...) {
		for _, secret := range []string{token.Query().Get("token"), strings.ReplaceAll(codeIn(t, m), " ", "")} {
			if bytes.Contains(ticket.Data, []byte(secret)) {
				t.Errorf("a ticket contains %q", secret)
			}
		}
	}
}

// In Chromium, with and without scripts: the whole way from a forgotten password to the account.
func TestResetInChromium(t *testing.T) {
	if testing.Short() {
		t.Skip("starting a browser takes seconds")
	}
	ctx := chromium.Start(t, 5*time.Minute)
	w := newWorldWithMail(t, func(*Config) {})
	w.addVerifiedAlice()
	next := newPassword
	for _, scripts := range []bool{true, false} {
		for _, byLink := range []bool{true, false} {
			next += "!"
			err := chromedp.Do(ctx,
				chromium.Scripts(scripts),
				chromedp.Navigate(w.url+"/sign-in"),
				chromedp.Click(chromedp.CSS("a[href^='/forgot']")),
				chromedp.SendKeys(chromedp.CSS("#identifier"), "alice"),
				chromedp.Click(chromedp.CSS("main .primary")),
				chromedp.WaitVisible(chromedp.CSS("#code")),
			)
			if err != nil {
				t.Fatalf("scripts %v: %v: %s", scripts, err, chromium.WhereIs(ctx))
			}
			message := w.received()
			if byLink {
				err = chromedp.Do(ctx, chromedp.Navigate(w.url+w.linkIn(message)))
			} else {
				err = chromedp.Do(ctx, chromedp.SendKeys(chromedp.CSS("#code"), codeIn(t, message)))
			}
			if err != nil {
				t.Fatal(err)
			}
			err = chromedp.Do(ctx,
				chromedp.SendKeys(chromedp.CSS("#new"), next),
				chromedp.Click(chromedp.CSS("main .primary")),
				chromedp.WaitVisible(chromedp.CSS(".emblem.good")),
				chromedp.Click(chromedp.CSS("main .primary")),
				chromedp.SendKeys(chromedp.CSS("#identifier"), "alice"),
				chromedp.SendKeys(chromedp.CSS("#password"), next),
				chromedp.Click(chromedp.CSS("main .primary")),
				chromedp.WaitVisible(chromedp.CSS("#sessions")),
				chromedp.Click(chromedp.CSS("header button")),
				chromedp.WaitVisible(chromedp.CSS("a[href='/sign-in']")),
			)
			if err != nil {
				t.Fatalf("scripts %v, link %v: %v: %s", scripts, byLink, err, chromium.WhereIs(ctx))
			}
			w.received() // about the password
			w.received() // about the sign-in, since all devices were forgotten
		}
	}
}
