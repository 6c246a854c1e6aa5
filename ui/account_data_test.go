package ui

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"reflect"
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
	if want := []string{"account", "applications", "exported_at", "format", "issuer", "linked_accounts", "remembered", "security_events", "sessions", "sign_in_methods"}; !slices.Equal(members, want) {
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

// whole is a user with a value in every field that is stored.
func whole() identity.User {
	at := time.Now().Add(-time.Minute).Truncate(time.Millisecond).UTC()
	return identity.User{
		ID: "w", Username: "whole", PasswordHash: passwordHash(), DeclaredPassword: "fingerprint-of-the-declared-one", UserCodeHash: passwordHash(),
		Claims: map[string]any{"email": "whole@example.com", "email_verified": true, "locale": "en"}, Administrator: true, Origin: identity.OriginSetup,
		EndedAt: at, CreatedAt: at, UpdatedAt: at,
		Authenticators: []identity.Authenticator{
			{ID: "a1", Kind: identity.MethodRecoveryCode, RecoveryCodes: &identity.RecoveryCodes{Hashes: [][]byte{[]byte("hash of a code")}}, CreatedAt: at, LastUsedAt: at},
			{ID: "a2", Kind: identity.MethodPasskey, Name: "a key", CreatedAt: at, Passkey: &identity.Passkey{
				CredentialID: []byte("credential"), PublicKey: []byte("public key"), AAGUID: "2fc0579f-8113-47ea-b116-bb5a8db9202a", Attestation: "packed",
				Transports: []string{"usb"}, SignCount: 7, BackupEligible: true, BackedUp: true,
			}},
		},
		External: []identity.ExternalLink{{
			ID: "l1", Provider: "corp", Issuer: "https://corp.example", Subject: "42", Email: "whole@corp.example", Label: "Whole at Corp",
			Claims: map[string]any{"department": "research"}, Groups: []string{"staff"}, LinkedAt: at, LastUsedAt: at, SuspendedAt: at,
		}},
		Account: identity.AccountData{
			Events:          []identity.SecurityEvent{{Kind: identity.EventAddressChanged, At: at, Browser: "Firefox", Detail: "before@example.com", Count: 2}},
			FormerNames:     []identity.FormerName{{Name: "former", Until: at.Add(time.Hour)}},
			RecoveringSince: at, Role: "operator",
			Recovery: &identity.MailRecovery{ID: "r1", StartedAt: at, ReadyAt: at.Add(time.Hour), SentAt: at, Email: "whole@example.com"},
		},
	}
}

// notExported are the fields of a user's record that the document does not have, and why.
var notExported = map[string]string{
	"User.PasswordHash": "a secret", "User.DeclaredPassword": "a secret", "User.UserCodeHash": "a secret; user_code says that there is one",
	"User.Disabled": "then nobody is signed in", "User.RetiredAt": "then nobody is signed in", "User.Forgotten": "not stored",
	"User.Kept": "names of sessions, which are listed", "User.DeclaredBy": "only a database has it; a declared user has it in declared_by",
	"AccountData.DeleteAfter": "then the page cannot be reached", "AccountData.LockedAt": "then nobody is signed in",
	"AccountData.Notices": "messages that are sent within a minute", "Authenticator.TOTP": "a secret", "SecurityEvent.Remote": "has no value in this test",
}

// The document has each field of the record of a user. A new field must be exported, or be listed above with a
// reason.
func TestExportHasEveryField(t *testing.T) {
	w := deletionWorld(t)
	user := whole()
	every := map[string]bool{}
	var visit func(v reflect.Value)
	visit = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.Pointer:
			visit(v.Elem())
		case reflect.Slice:
			for i := range v.Len() {
				visit(v.Index(i))
			}
		case reflect.Struct:
			if v.Type().PkgPath() != reflect.TypeFor[identity.User]().PkgPath() {
				return
			}
			for i := range v.NumField() {
				field := v.Type().Name() + "." + v.Type().Field(i).Name
				every[field] = every[field] || !v.Field(i).IsZero()
				visit(v.Field(i))
			}
		}
	}
	visit(reflect.ValueOf(user))
	for field, has := range every {
		if notExported[field] == "" && !has {
			t.Errorf("%s has no value in this test", field)
		}
	}
	w.addUser(user)
	b := w.newBrowser()
	at := time.Now()
	secret, _, err := w.accounts.StartSession(t.Context(), at, &user, identity.SessionDetails{AMR: []string{"pwd"}, ACR: "phr", Proofs: []identity.ProvedMethod{
		{Method: identity.MethodPasskey, At: at, Authenticator: "a2", UserVerified: true}, {Method: identity.MethodUpstream, At: at, Authenticator: "corp.reference"},
	}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.accounts.RememberDevice(t.Context(), at, user.ID, ""); err != nil {
		t.Fatal(err)
	}
	if err := w.accounts.RemovePasskey(t.Context(), at, &user, "a2", identity.Activity{}); err != nil {
		t.Fatal(err)
	}
	w.updateUser("w", func(u *identity.User) { u.Authenticators = user.Authenticators })
	file := b.withSession(secret).post("/account/export", url.Values{})
	file.want(t, 200)
	var document map[string]any
	if err := json.Unmarshal([]byte(file.body), &document); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"sub": "w"`, `"username": "whole"`, `"former"`, `"locale": "en"`, `"administrator": true`, `"role": "operator"`, `"user_code": true`, `"origin": "setup"`,
		`"everything_ended_at"`, `"recovering_since"`, `"ready_at"`, `"started_at"`, `"sent_at"`,
		`"codes_left": 1`, `"name": "a key"`, `"credential_id"`, `"public_key"`, `"aaguid"`, `"attestation": "packed"`, `"usb"`, `"sign_count": 7`, `"backup_eligible": true`, `"backed_up": true`,
		`"provider": "corp"`, `"issuer": "https://corp.example"`, `"subject": "42"`, `"whole@corp.example"`, `"Whole at Corp"`, `"department": "research"`, `"staff"`, `"linked_at"`, `"suspended_at"`,
		`"address_changed"`, `"before@example.com"`, `"Firefox"`, `"count": 2`, `"method": "passkey"`, `"method": "upstream"`, `"acr": "phr"`,
		`"removed": "passkey"`, `"removed_passkeys": [`, `"until"`,
	} {
		if !strings.Contains(file.body, want) {
			t.Errorf("the document lacks %s:\n%s", want, file.body)
		}
	}
	for _, hidden := range []string{"argon2", "fingerprint-of", base64.StdEncoding.EncodeToString([]byte("hash of a code")), secret} {
		if strings.Contains(file.body, hidden) {
			t.Errorf("the document has the secret %s", hidden)
		}
	}
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
