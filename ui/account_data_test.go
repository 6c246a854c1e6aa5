package ui

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/identity"
)

// deletionWorld returns a world in which users can delete their accounts and change their names.
func deletionWorld(t *testing.T) *world {
	return newWorldWithMail(t, func(c *Config) { c.DeletionGrace, c.UsernameChange = 14*24*time.Hour, true })
}

// "This wasn't me" signs everyone out. The password is of no use until a new one was chosen with a
// message, and the account page says what happened.
func TestLockDown(t *testing.T) {
	w := deletionWorld(t)
	w.addVerifiedAlice()
	thief, owner := w.newBrowser(), w.newBrowser()
	thief.signIn("alice", password)
	w.received() // about the new device
	owner.signIn("alice", password)
	w.received()
	owner.get("/account").want(t, 200, "Recent activity", "Sign-in on a new device")
	owner.get("/account/not-me").want(t, 200, "alice@example.com", "Lock my account")
	thief.get("/account").want(t, 200, "alice")

	owner.post("/account/not-me", url.Values{}).want(t, 200, "Your account is locked")
	if m := w.received(); m.To != "alice@example.com" || !strings.Contains(m.Subject(), "locked") {
		t.Errorf("the message is to %s: %s", m.To, m.Subject())
	}
	for _, b := range []*browserClient{thief, owner} {
		b.get("/account").redirectedTo(t, "/sign-in")
		b.signIn("alice", password).want(t, 403, "Incorrect username or password.")
	}
	owner.asksForReset("alice")
	link := w.linkIn(w.received())
	owner.get(link).want(t, 200, "New password")
	token := regexp.MustCompile(`token=([^&]+)`).FindStringSubmatch(link)[1]
	owner.post("/reset", url.Values{"token": {token}, "new": {newPassword}})
	w.received() // about the new password
	thief.signIn("alice", password).want(t, 403, "Incorrect username or password.")
	owner.signIn("alice", newPassword)
	owner.get("/account").want(t, 200, "Account locked", "Password reset by email")
}

// Without a verified address, nobody could unlock the account: the button signs out everyone else.
func TestLockDownWithoutAnAddress(t *testing.T) {
	w := deletionWorld(t)
	w.addAlice()
	thief, owner := w.newBrowser(), w.newBrowser()
	thief.signIn("alice", password)
	owner.signIn("alice", password)
	owner.get("/account/not-me").want(t, 200, "Sign out everyone else")
	owner.post("/account/not-me", url.Values{}).redirectedTo(t, "/account/password")
	thief.get("/account").redirectedTo(t, "/sign-in")
	owner.get("/account").want(t, 200, "Signed out on several devices")
	w.newBrowser().signIn("alice", password).redirectedTo(t, "/account?signed_in=1")
}

func TestEndOtherSessions(t *testing.T) {
	w := deletionWorld(t)
	w.addAlice()
	other, b := w.newBrowser(), w.newBrowser()
	other.signIn("alice", password)
	b.signIn("alice", password)
	b.get("/account").want(t, 200, "Sign out on all other devices")
	b.post("/account/sessions/end-others", url.Values{}).redirectedTo(t, "/account")
	b.get("/account").want(t, 200, "You are signed out on all other devices.")
	other.get("/account").redirectedTo(t, "/sign-in")
}

// A user who has deleted the account can come back by signing in, and for nothing else. After the
// grace period, everything is gone.
func TestDeletionOfAnAccount(t *testing.T) {
	w := deletionWorld(t)
	alice := w.addVerifiedAlice()
	b, other := w.newBrowser(), w.newBrowser()
	other.signIn("alice", password)
	w.received()
	b.signIn("alice", password)
	w.received()
	b.get("/account/delete").want(t, 200, "In 14 days")
	b.post("/account/delete", url.Values{}).want(t, 200, "Your account will be deleted")
	if m := w.received(); !strings.Contains(m.Text, "14 days") {
		t.Errorf("the notice:\n%s", m.Text)
	}
	for _, b := range []*browserClient{b, other} {
		b.get("/account").redirectedTo(t, "/sign-in")
	}
	b.signIn("alice", "wrong").want(t, 403, "Incorrect")
	b.signIn("alice", password).redirectedTo(t, "/account/restore")
	w.received() // about the device, which was forgotten
	b.get("/account").redirectedTo(t, "/account/restore")
	b.post("/account/email", url.Values{"email": {"x@example.com"}}).redirectedTo(t, "/account/restore")
	if who, err := w.ui.SignedIn(b.request("GET", "/", nil)); who != nil || err != nil {
		t.Errorf("clients see %v, %v", who, err)
	}
	b.get("/account/restore").want(t, 200, "Keep my account")
	b.post("/account/restore", url.Values{}).redirectedTo(t, "/account")
	b.get("/account").want(t, 200, "Your account will not be deleted.", "Deletion of the account canceled")
	w.received()

	b.post("/account/delete", url.Values{}).want(t, 200, "Your account will be deleted")
	w.received()
	for _, after := range []time.Duration{13, 15} {
		if err := w.accounts.Maintain(t.Context(), time.Now().Add(after*24*time.Hour)); err != nil {
			t.Fatal(err)
		}
		_, err := w.store.User(t.Context(), alice.ID)
		if (err == nil) != (after == 13) {
			t.Errorf("after %d days: %v", after, err)
		}
	}
	b.signIn("alice", password).want(t, 403, "Incorrect username or password.")
}

func TestWhoCannotDeleteTheAccount(t *testing.T) {
	w := deletionWorld(t)
	w.addUser(identity.User{ID: "d", Username: "declared", PasswordHash: passwordHash(), Origin: identity.OriginDeclared})
	w.addUser(identity.User{ID: "r", Username: "root", PasswordHash: passwordHash(), Origin: identity.OriginSetup, Administrator: true})
	for name, text := range map[string]string{"declared": "it would be created again", "root": "last administrator"} {
		b := w.newBrowser()
		b.signIn(name, password)
		b.post("/account/delete", url.Values{}).want(t, 409, text)
		b.get("/account").want(t, 200, name)
	}
}

func TestChangeOfUsername(t *testing.T) {
	w := deletionWorld(t)
	w.addVerifiedAlice()
	w.addUser(identity.User{ID: "b", Username: "bob", PasswordHash: passwordHash()})
	b := w.newBrowser()
	b.signIn("alice", password)
	w.received()
	for name, text := range map[string]string{"BOB": "already taken", "al\u200bice": "invisible", "сосо": "alphabet", "": "letters"} {
		if r := b.post("/account/username", url.Values{"username": {name}}); r.StatusCode < 400 || !strings.Contains(r.body, text) {
			t.Errorf("%q: status %d\n%s", name, r.StatusCode, r.body)
		}
	}
	b.post("/account/username", url.Values{"username": {"alison"}}).redirectedTo(t, "/account")
	if m := w.received(); !strings.Contains(m.Text, "alison") {
		t.Errorf("the notice:\n%s", m.Text)
	}
	b.get("/account").want(t, 200, "alison", "Username changed from <bdi>alice</bdi>")

	// The former name still signs in, and no one else gets it.
	w.newBrowser().signIn("alice", password).redirectedTo(t, "/account?signed_in=1")
	stranger := w.newBrowser()
	stranger.post("/sign-up", url.Values{"username": {"Alice"}, "password": {newPassword}}).want(t, 400, "already taken")
	if err := w.accounts.Maintain(t.Context(), time.Now().Add(91*24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	stranger.signIn("alice", password).want(t, 403, "Incorrect")
}

// The document has everything that is stored about the user, and no secret.
func TestExport(t *testing.T) {
	w := deletionWorld(t)
	w.addVerifiedAlice()
	b := w.newBrowser()
	b.signIn("alice", password)
	b.get("/account/export").want(t, 200, "Download your data")
	file := b.post("/account/export", url.Values{})
	if file.StatusCode != 200 || !strings.HasPrefix(file.Header.Get("Content-Disposition"), "attachment") || file.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("status %d, header %v", file.StatusCode, file.Header)
	}
	var document map[string]any
	if err := json.Unmarshal([]byte(file.body), &document); err != nil {
		t.Fatal(err)
	}
	members := slices.Sorted(maps.Keys(document))
	if want := []string{"account", "applications", "exported_at", "format", "issuer", "security_events", "sessions", "sign_in_methods"}; !slices.Equal(members, want) {
		t.Errorf("members %q", members)
	}
	for _, want := range []string{"alice@example.com", `"kind": "password"`, `"new_device"`, `"signed_in_at"`} {
		if !strings.Contains(file.body, want) {
			t.Errorf("the document lacks %s:\n%s", want, file.body)
		}
	}
	if strings.Contains(file.body, "argon2") || strings.Contains(file.body, b.cookie("session")) && b.cookie("session") != "" {
		t.Error("the document has a secret")
	}
	b.get("/account").want(t, 200, "Data downloaded")
	w.newBrowser().post("/account/export", url.Values{}).redirectedTo(t, "/sign-in")
}

// volatile are the parts of a response that differ between two requests in any case.
var volatile = regexp.MustCompile(`(request|token|interaction)=[A-Za-z0-9_-]+|value="[A-Za-z0-9_-]{20,}"|Ref[a-z]+: ?<code>[a-z0-9]+</code>`)

// What a stranger does with the name or address of an account looks the same as with one of no account:
// status, body, headers and cookies.
func TestKnownAndUnknownAccountsLookTheSame(t *testing.T) {
	w := newWorldWithMail(t, func(c *Config) {
		c.EmailSignIn, c.SignUpRequires, c.SignUpEmailDomains = true, SignUpEmailDomain, []string{"example.com"}
		c.RemoteAddr = addresses()
	})
	w.addVerifiedAlice()
	w.addUser(identity.User{ID: "m", Username: "mallory", PasswordHash: passwordHash()})
	disabled := w.addUser(identity.User{ID: "x", Username: "xena", PasswordHash: passwordHash(), Disabled: true, Claims: map[string]any{"email": "xena@example.com", "email_verified": true}})
	deleted := w.addUser(identity.User{ID: "y", Username: "yves", PasswordHash: passwordHash(), Account: identity.AccountData{LockedAt: time.Now()}})
	for what, do := range map[string]func(b *browserClient, name string) response{
		"sign-in": func(b *browserClient, name string) response { return b.signIn(name, "wrong") },
		"forgotten password": func(b *browserClient, name string) response {
			return b.post("/forgot", url.Values{"identifier": {name}})
		},
		"sign-in with a message": func(b *browserClient, name string) response { return b.asksToSignIn(name) },
		"sign-up with an address": func(b *browserClient, name string) response {
			return b.post("/sign-up/email", url.Values{"email": {name + "@example.com"}})
		},
		"change of address": func(b *browserClient, name string) response {
			b.signIn("mallory", password)
			return b.post("/account/email", url.Values{"email": {name + "@example.com"}, "current": {password}})
		},
	} {
		looks := map[string]string{}
		for _, name := range []string{"alice", "nobody", disabled.Username, deleted.Username} {
			b := w.newBrowser()
			r := do(b, name)
			header := r.Header.Clone()
			for _, changes := range []string{"Date", "Content-Length", "Set-Cookie"} {
				header.Del(changes)
			}
			var cookies []string
			for _, c := range r.Cookies() {
				cookies = append(cookies, c.Name)
			}
			text := volatile.ReplaceAllString(strings.ReplaceAll(fmt.Sprint(header, " ", r.body), name, "NAME"), "$1")
			looks[name] = fmt.Sprint(r.StatusCode, text, cookies)
		}
		for name, look := range looks {
			if look != looks["nobody"] {
				t.Errorf("%s: %s looks different from an unknown account:\n%s\n\n%s", what, name, look, looks["nobody"])
			}
		}
	}
}
