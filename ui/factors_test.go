package ui

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/valetkey/valetkey/identity"
)

var shownKey = regexp.MustCompile(`<code>([A-Z2-7 ]{39})</code>`)

// codeOf returns the code that an authenticator application shows in a number of steps from now.
func codeOf(t *testing.T, key string, steps int) string {
	t.Helper()
	code, err := totp.GenerateCode(strings.ReplaceAll(key, " ", ""), time.Now().Add(time.Duration(steps)*30*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// setsUpTOTP adds an authenticator application, confirmed with the code of the step before, and
// returns its key.
func (b *browserClient) setsUpTOTP() (key string) {
	b.t.Helper()
	page := b.get(newTOTPPath)
	page.want(b.t, 200, "<svg", "otpauth://totp/Valetkey:alice")
	match := shownKey.FindStringSubmatch(page.body)
	if match == nil {
		b.t.Fatalf("the page shows no key:\n%s", page.body)
	}
	b.post(newTOTPPath, with(page.hidden(), "code", codeOf(b.t, match[1], -1), "name", "Phone")).want(b.t, http.StatusSeeOther)
	return match[1]
}

// sessionOf returns the sign-in session of a browser.
func (w *world) sessionOf(b *browserClient) *identity.Session {
	w.t.Helper()
	session, err := w.accounts.Session(w.t.Context(), time.Now(), b.cookie("valetkey_session"))
	if err != nil {
		w.t.Fatal(err)
	}
	return session
}

// A user sets up an authenticator application, gets recovery codes, and signs in with both.
func TestSecondFactorFromSetUpToSignIn(t *testing.T) {
	w := newWorldWithMail(t, func(*Config) {})
	w.addVerifiedAlice()
	b := w.newBrowser()
	b.signIn("alice", password)
	w.received() // about the new sign-in
	b.get("/account").want(t, 200, "Authenticator app", newTOTPPath)
	page := b.get(newTOTPPath)
	key := shownKey.FindStringSubmatch(page.body)[1]
	b.post(newTOTPPath, with(page.hidden(), "code", "000000", "name", "<b>Phone")).want(t, 403, "incorrect", key, "&lt;b&gt;Phone")
	if user, _ := w.accounts.User(t.Context(), "a"); len(user.Authenticators) > 0 {
		t.Error("an authenticator counts before it is confirmed")
	}
	b.post(newTOTPPath, with(page.hidden(), "code", codeOf(t, key, -1), "name", "Phone")).redirectedTo(t, recoveryCodesPath)
	b.post(newTOTPPath, with(page.hidden(), "code", codeOf(t, key, -1), "name", "Phone")).redirectedTo(t, totpPath) // sent twice

	if session := w.sessionOf(b); session.ACR != "2" || strings.Join(session.AMR, " ") != "pwd otp mfa" {
		t.Errorf("the session has acr %s and amr %v", session.ACR, session.AMR)
	}
	b.get(recoveryCodesPath).want(t, 200, "Create codes")
	shown := b.post(recoveryCodesPath, url.Values{})
	codes := regexp.MustCompile(`<code>([0-9a-z-]{19})</code>`).FindAllStringSubmatch(shown.body, -1)
	if len(codes) != 10 {
		t.Fatalf("the page shows %d codes:\n%s", len(codes), shown.body)
	}
	var kept []string
	for _, code := range codes {
		kept = append(kept, code[1])
	}
	file := b.post(recoveryCodesPath+"/download", url.Values{"code": kept})
	file.want(t, 200, codes[0][1], codes[9][1], "alice")
	if file.Header.Get("Content-Disposition") != `attachment; filename="recovery-codes.txt"` || !strings.HasPrefix(file.Header.Get("Content-Type"), "text/plain") || file.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("the file has the header %v", file.Header)
	}
	if b.get(recoveryCodesPath); strings.Contains(b.get("/account").body, codes[0][1]) {
		t.Error("a code is shown again")
	}
	b.get("/account").want(t, 200, "Phone", "10 codes are left")

	// The code of the app works once. A second browser with the same code has to wait.
	again, second := w.newBrowser(), w.newBrowser()
	for _, browser := range []*browserClient{again, second} {
		browser.signIn("alice", password).redirectedTo(t, factorPath)
		browser.get(factorPath).want(t, 200, proveTOTPPath, proveRecoveryCodePath)
	}
	code := codeOf(t, key, 1)
	again.post(proveTOTPPath, url.Values{"code": {"123 456"}}).want(t, 403, "incorrect")
	again.post(proveTOTPPath, url.Values{"code": {code}}).redirectedTo(t, "/account?signed_in=1")
	second.post(proveTOTPPath, url.Values{"code": {code}}).want(t, 403, "already been used")
	second.get("/account").redirectedTo(t, "/sign-in")
	second.post(proveRecoveryCodePath, url.Values{"code": {codes[0][1]}}).redirectedTo(t, "/account?signed_in=1")
	second.get("/account").want(t, 200, "9 codes are left")
}

// Few codes: the user is warned after the sign-in, before the application gets its response, by mail,
// and on the account page.
func TestFewRecoveryCodes(t *testing.T) {
	w := newWorldWithMail(t, func(*Config) {})
	w.addVerifiedAlice()
	b := w.newBrowser()
	b.signIn("alice", password)
	b.setsUpTOTP()
	codes, err := w.accounts.NewRecoveryCodes(t.Context(), time.Now(), "a", identity.Activity{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 7 {
		signIn := w.newBrowser()
		signIn.get(signIn.get(w.authorizeURL(nil)).redirected(t))
		page := signIn.get(signIn.get(w.authorizeURL(nil)).redirected(t))
		signIn.post("/sign-in", with(page.hidden(), "identifier", "alice", "password", password)).want(t, http.StatusSeeOther)
		prove := signIn.get(proveRecoveryCodePath + "?interaction=" + page.hidden().Get("interaction"))
		next := signIn.post(proveRecoveryCodePath, with(prove.hidden(), "code", codes[i]))
		if i < 6 {
			next.want(t, http.StatusSeeOther)
			if strings.Contains(next.Header.Get("Location"), fewCodesPath) {
				t.Fatalf("the user is warned after %d codes", i+1)
			}
			continue
		}
		warning := signIn.get(next.redirected(t))
		warning.want(t, 200, "3 codes are left", recoveryCodesPath)
		onward := regexp.MustCompile(`href="([^"]*interaction[^"]*)"`).FindStringSubmatch(warning.body)
		if onward == nil {
			t.Fatalf("the page does not continue:\n%s", warning.body)
		}
		signIn.get(strings.TrimPrefix(strings.ReplaceAll(onward[1], "&amp;", "&"), w.url)).want(t, http.StatusSeeOther)
		signIn.get("/account").want(t, 200, "Only 3 codes are left")
	}
	subjects := map[string]int{}
	if err := w.outbox.Deliver(t.Context()); err != nil {
		t.Fatal(err)
	}
	for subjects["You have few recovery codes left"] == 0 {
		subjects[w.mail.Next().Subject()]++
	}
	if subjects["You have few recovery codes left"] != 1 || subjects["A recovery code was used"] != 6 {
		t.Errorf("the messages are %v", subjects)
	}
}

// Nobody without the first factor reaches the pages of the second, in any state of the browser.
func TestSecondFactorNeedsTheFirst(t *testing.T) {
	w := newWorld(t)
	w.addAlice()
	b := w.newBrowser()
	b.signIn("alice", password)
	key := b.setsUpTOTP()
	stranger := w.newBrowser()
	for _, path := range []string{proveTOTPPath, proveRecoveryCodePath, fewCodesPath} {
		stranger.get(path).redirectedTo(t, "/sign-in")
	}
	for _, path := range []string{proveTOTPPath, proveRecoveryCodePath} {
		stranger.post(path, url.Values{"code": {codeOf(t, key, 0)}, "identifier": {"alice"}}).redirectedTo(t, "/sign-in")
	}
	for _, path := range []string{totpPath, newTOTPPath, recoveryCodesPath} {
		stranger.get(path).redirectedTo(t, "/sign-in")
	}
	stranger.signIn("alice", "wrong password").want(t, 403)
	stranger.post(proveTOTPPath, url.Values{"code": {codeOf(t, key, 0)}}).redirectedTo(t, "/sign-in")
	// The code was not used up by any of these.
	b2 := w.newBrowser()
	b2.signIn("alice", password)
	b2.post(proveTOTPPath, url.Values{"code": {codeOf(t, key, 0)}}).redirectedTo(t, "/account?signed_in=1")
}

// A sign-in in another tab of the same browser does not lend its first factor to another user.
func TestSecondFactorOfAnotherUser(t *testing.T) {
	w := newWorld(t)
	w.addAlice()
	w.addUser(identity.User{ID: "b", Username: "bob", PasswordHash: passwordHash()})
	b := w.newBrowser()
	b.signIn("alice", password)
	alices := b.setsUpTOTP()
	bob := w.newBrowser()
	bob.signIn("bob", password)
	page := bob.get(newTOTPPath)
	bobs := shownKey.FindStringSubmatch(page.body)[1]
	bob.post(newTOTPPath, with(page.hidden(), "code", codeOf(t, bobs, -1))).want(t, http.StatusSeeOther)
	// Bob's form does not add his authenticator to Alice, in a browser where Alice is signed in.
	b.post(newTOTPPath, with(page.hidden(), "code", codeOf(t, bobs, 1))).redirectedTo(t, totpPath)
	if user, _ := w.accounts.User(t.Context(), "a"); len(user.Authenticators) != 1 {
		t.Errorf("alice has %v", user.Authenticators)
	}
	shared := w.newBrowser()
	shared.signIn("bob", password).redirectedTo(t, factorPath)
	shared.signIn("alice", password).redirectedTo(t, factorPath)
	shared.post(proveTOTPPath, url.Values{"code": {codeOf(t, bobs, 0)}}).want(t, 403) // the sign-in is Alice's now
	shared.get("/account").redirectedTo(t, "/sign-in")
	shared.post(proveTOTPPath, url.Values{"code": {codeOf(t, alices, 0)}}).redirectedTo(t, "/account?signed_in=1")
	shared.get("/account").want(t, 200, "alice")
}

// F-05: an authenticator that was removed while a sign-in was waiting for it does not complete it. The
// password alone is enough then.
func TestSecondFactorRemovedWhileASignInWaits(t *testing.T) {
	w := newWorld(t)
	w.addAlice()
	b := w.newBrowser()
	b.signIn("alice", password)
	key := b.setsUpTOTP()
	waiting := w.newBrowser()
	waiting.signIn("alice", password).redirectedTo(t, factorPath)
	waiting.get(proveTOTPPath).want(t, 200)
	page := b.get(totpPath)
	page.want(t, 200, "Phone", "Remove")
	id := page.hidden().Get("authenticator")
	b.get(totpPath+"?rename="+id).want(t, 200, `value="Phone"`, "Save")
	b.post(totpPath+"/rename", url.Values{"authenticator": {id}, "name": {"Tablet"}}).redirectedTo(t, totpPath)
	b.get(totpPath).want(t, 200, "Tablet")
	b.post(totpPath+"/remove", url.Values{"authenticator": {page.hidden().Get("authenticator")}}).redirectedTo(t, "/account")
	if user, _ := w.accounts.User(t.Context(), "a"); user.Has(identity.MethodTOTP) {
		t.Fatal("the authenticator was not removed")
	}
	waiting.post(proveTOTPPath, url.Values{"code": {codeOf(t, key, 1)}}).want(t, http.StatusSeeOther)
	waiting.get("/account").redirectedTo(t, "/sign-in")
	waiting.signIn("alice", password).redirectedTo(t, "/account?signed_in=1")
}

// A sign-in ends after five wrong codes, and others of the same user after ten in total.
func TestSecondFactorGuesses(t *testing.T) {
	w := newWorld(t)
	w.addAlice()
	owner := w.newBrowser()
	owner.signIn("alice", password)
	key := owner.setsUpTOTP()
	statuses := map[int]int{}
	for range 6 {
		b := w.newBrowser()
		b.signIn("alice", password)
		for i := range 6 {
			statuses[b.post(proveTOTPPath, url.Values{"code": {fmt.Sprintf("%06d", i)}}).StatusCode]++
		}
	}
	if statuses[403] > 10 || statuses[429] == 0 {
		t.Errorf("the statuses are %v", statuses)
	}
	// The owner's browser has its own budget.
	owner.post("/sign-out", url.Values{})
	owner.signIn("alice", password).redirectedTo(t, factorPath)
	owner.post(proveTOTPPath, url.Values{"code": {codeOf(t, key, 0)}}).redirectedTo(t, "/account?signed_in=1")
}

// The file has only recovery codes, whatever is posted.
func TestDownloadSendsNothingElse(t *testing.T) {
	w := newWorld(t)
	w.addAlice()
	b := w.newBrowser()
	b.post(recoveryCodesPath+"/download", url.Values{"code": {"0000-0000-0000-0000"}}).redirectedTo(t, "/sign-in")
	b.signIn("alice", password)
	b.post(recoveryCodesPath+"/download", url.Values{"code": {"<script>alert(1)</script>"}}).redirectedTo(t, recoveryCodesPath)
	if file := b.post(recoveryCodesPath+"/download", url.Values{"code": {"0000-0000-0000-0000", "=cmd()"}}); strings.Contains(file.body, "cmd") {
		t.Error(file.body)
	}
}
