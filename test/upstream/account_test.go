package upstream

import (
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/mailtest"
	"github.com/valetkey/valetkey/internal/person"
)

// post submits a form of a page of a server.
func post(t *testing.T, b *http.Client, issuer, path string, form url.Values) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, issuer+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Origin", issuer)
	response, err := b.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(body)
}

// atProvider sends a person to the provider to which a response redirects, and returns the response
// to the authorization response.
func atProvider(t *testing.T, b *http.Client, issuer string, toProvider *http.Response, p *person.Person) (*http.Response, string) {
	t.Helper()
	to, err := toProvider.Location()
	if err != nil {
		t.Fatalf("status %d: %v", toProvider.StatusCode, err)
	}
	authorized, err := p.Visit(to.String(), issuer+"/upstream/")
	if err != nil {
		t.Fatal(err)
	}
	return get(t, b, authorized.String())
}

// withCarol adds a local user with a password, and lets any user of the provider sign in.
func withCarol(c *configuration.Configuration) {
	c.PasswordSignIn, c.IdentityProviders[0].Rule = "", ""
	c.Users = []configuration.User{{Username: "carol", Password: password, Name: "Carol Local"}}
}

func signedIn(t *testing.T, issuer string) *http.Client {
	t.Helper()
	b := visitor(t)
	if response, _ := post(t, b, issuer, "/sign-in", url.Values{"identifier": {"carol"}, "password": {password}}); response.StatusCode != http.StatusSeeOther {
		t.Fatalf("sign in: %d", response.StatusCode)
	}
	return b
}

var unlinkID = regexp.MustCompile(`name="unlink" value="([^"]+)"`)

// Without a rule, a user of the provider has no account until the owner of an account links it.
func TestLinkAndUnlinkOnTheAccountPage(t *testing.T) {
	issuer, _ := newWorld(t, withCarol)
	alice, stranger := person.New("alice", password), visitor(t)
	start, _ := post(t, stranger, issuer, "/sign-in/upstream", url.Values{"provider": {"corp"}})
	if response, body := atProvider(t, stranger, issuer, start, alice); response.StatusCode != http.StatusForbidden || !strings.Contains(body, "no account") {
		t.Errorf("before the link: %d", response.StatusCode)
	}

	b := signedIn(t, issuer)
	if response, body := get(t, b, issuer+"/account/linked"); response.StatusCode != http.StatusOK || !strings.Contains(body, "Link <bdi>Example Corp</bdi>") || unlinkID.MatchString(body) {
		t.Fatalf("the page: %d", response.StatusCode)
	}
	start, _ = post(t, b, issuer, "/account/linked", url.Values{"provider": {"corp"}})
	linked, _ := atProvider(t, b, issuer, start, alice)
	if linked.StatusCode != http.StatusSeeOther || linked.Header.Get("Location") != issuer+"/account/linked" && linked.Header.Get("Location") != "/account/linked" {
		t.Fatalf("after the link: %d %s", linked.StatusCode, linked.Header.Get("Location"))
	}
	_, body := get(t, b, issuer+"/account/linked")
	id := unlinkID.FindStringSubmatch(body)
	if id == nil || !strings.Contains(body, "alice@corp.example") {
		t.Fatalf("the page does not list the link: %s", body)
	}

	// Another browser signs in with the provider, as carol.
	other := visitor(t)
	start, _ = post(t, other, issuer, "/sign-in/upstream", url.Values{"provider": {"corp"}})
	if response, _ := atProvider(t, other, issuer, start, alice); response.StatusCode != http.StatusSeeOther {
		t.Errorf("sign in with the link: %d", response.StatusCode)
	}
	if _, body := get(t, other, issuer+"/account"); !strings.Contains(body, "Carol Local") {
		t.Errorf("the provider's user is not carol")
	}

	// The page of another user cannot remove it; the own one can.
	if response, _ := post(t, b, issuer, "/account/linked", url.Values{"unlink": {id[1]}}); response.StatusCode != http.StatusSeeOther {
		t.Fatalf("unlink: %d", response.StatusCode)
	}
	if _, body := get(t, b, issuer+"/account/linked"); unlinkID.MatchString(body) {
		t.Error("the link is still listed")
	}
	if response, _ := get(t, other, issuer+"/account"); response.StatusCode != http.StatusSeeOther {
		t.Errorf("a session that began with the link continues: %d", response.StatusCode)
	}
	again := visitor(t)
	start, _ = post(t, again, issuer, "/sign-in/upstream", url.Values{"provider": {"corp"}})
	if response, _ := atProvider(t, again, issuer, start, alice); response.StatusCode != http.StatusForbidden {
		t.Errorf("sign in after the link was removed: %d", response.StatusCode)
	}
}

// A link needs the browser and the session that began it, and an external user has one account.
func TestLinksBelongToOneAccount(t *testing.T) {
	issuer, _ := newWorld(t, func(c *configuration.Configuration) {
		withCarol(c)
		c.IdentityProviders[0].Rule = "true"
	})
	alice := person.New("alice", password)
	own := visitor(t)
	start, _ := post(t, own, issuer, "/sign-in/upstream", url.Values{"provider": {"corp"}})
	atProvider(t, own, issuer, start, alice)

	b := signedIn(t, issuer)
	start, _ = post(t, b, issuer, "/account/linked", url.Values{"provider": {"corp"}})
	if response, body := atProvider(t, b, issuer, start, alice); response.StatusCode != http.StatusConflict || !strings.Contains(body, "another account") {
		t.Errorf("alice has an account of her own: %d", response.StatusCode)
	}
	_, body := get(t, own, issuer+"/account/linked")
	id := unlinkID.FindStringSubmatch(body)
	if id == nil {
		t.Fatal("the account that the provider created lists no link")
	}
	post(t, b, issuer, "/account/linked", url.Values{"unlink": {id[1]}}) // of another account
	if response, body := post(t, own, issuer, "/account/linked", url.Values{"unlink": {id[1]}}); response.StatusCode != http.StatusConflict || !strings.Contains(body, id[1]) {
		t.Errorf("the last way to sign in was removed: %d", response.StatusCode)
	}
	// The browser signs out while its user is at the provider.
	start, _ = post(t, b, issuer, "/account/linked", url.Values{"provider": {"corp"}})
	post(t, b, issuer, "/sign-out", nil)
	if response, _ := atProvider(t, b, issuer, start, person.New("bob", password)); response.StatusCode != http.StatusBadRequest {
		t.Errorf("a link after the session ended: %d", response.StatusCode)
	}
}

// A change of the account can be confirmed with the provider, which must ask its user again.
func TestConfirmWithTheProvider(t *testing.T) {
	issuer, _ := newWorld(t, func(c *configuration.Configuration) { c.IdentityProviders[0].Rule = "true"; c.PasswordSignIn = "" })
	alice, b := person.New("alice", password), visitor(t)
	start, _ := post(t, b, issuer, "/sign-in/upstream", url.Values{"provider": {"corp"}})
	atProvider(t, b, issuer, start, alice)
	confirm := "/account/confirm?return=/account/linked"
	response, body := get(t, b, issuer+confirm)
	if response.StatusCode != http.StatusOK || !strings.Contains(body, "<bdi>Example Corp</bdi>") || !strings.Contains(body, `name="return" value="/account/linked"`) {
		t.Fatalf("the page offers no provider: %d %s", response.StatusCode, body)
	}
	again := url.Values{"provider": {"corp"}, "return": {"/account/linked"}}

	start, _ = post(t, b, issuer, "/sign-in/upstream", again)
	to, err := start.Location()
	if err != nil {
		t.Fatal(err)
	}
	alice.Password = "wrong"
	if authorized, err := alice.Visit(to.String(), issuer+"/upstream/"); err == nil {
		t.Errorf("the provider did not ask again: %s", authorized.Path)
	}
	alice.Password = password
	if response, _ := atProvider(t, b, issuer, start, alice); response.StatusCode != http.StatusSeeOther || !strings.HasSuffix(response.Header.Get("Location"), "/account/linked") {
		t.Errorf("confirmed: %d %s", response.StatusCode, response.Header.Get("Location"))
	}

	// bob has no account, and gets none by confirming for alice.
	start, _ = post(t, b, issuer, "/sign-in/upstream", again)
	if response, _ := atProvider(t, b, issuer, start, person.New("bob", password)); response.StatusCode != http.StatusConflict {
		t.Errorf("confirmed by another user: %d", response.StatusCode)
	}
	if response, body := get(t, b, issuer+"/account"); response.StatusCode != http.StatusOK || !strings.Contains(body, "alice") {
		t.Errorf("the session is no longer that of alice: %d", response.StatusCode)
	}
	start, _ = post(t, b, issuer, "/account/linked", url.Values{"provider": {"corp"}})
	if response, _ := atProvider(t, b, issuer, start, person.New("bob", password)); response.StatusCode != http.StatusSeeOther {
		t.Errorf("bob got an account of his own: %d", response.StatusCode)
	}
}

var (
	undoLink = regexp.MustCompile(`/undo-email\?token=[A-Za-z0-9_-]{43}`)
	hidden   = regexp.MustCompile(`<input type="hidden" name="([^"]+)" value="([^"]*)"`)
)

// Each change of a link is notified, and the notice undoes it.
func TestNoticesOfLinksUndoThem(t *testing.T) {
	receiver := mailtest.Start(t, mailtest.Options{RequireAuth: true})
	passwordFile := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(passwordFile, []byte(mailtest.Password), 0o600); err != nil {
		t.Fatal(err)
	}
	issuer, _ := newWorld(t, func(c *configuration.Configuration) {
		withCarol(c)
		c.Users[0].Email, c.Users[0].EmailVerified = "carol@example.com", verified()
		c.Mail = &configuration.Mail{From: "Example <login@example.com>", SMTP: &configuration.SMTP{
			Host: receiver.Host, Port: receiver.Port, TLS: configuration.TLSStart, Username: mailtest.Username, PasswordFile: passwordFile,
		}}
		c.Outgoing.CertificateAuthorities = receiver.CertificateAuthority
	})
	noticeOf := func(subject string) string {
		t.Helper()
		for {
			m := receiver.Next()
			if link := undoLink.FindString(m.Text); link != "" && strings.Contains(m.Subject(), subject) {
				if !strings.Contains(m.Text, "another provider") {
					t.Errorf("the notice does not say what changed: %s", m.Text)
				}
				return link
			}
		}
	}
	undo := func(link string) {
		t.Helper()
		anyone := visitor(t)
		_, body := get(t, anyone, issuer+link)
		form := url.Values{}
		for _, input := range hidden.FindAllStringSubmatch(body, -1) {
			form.Set(input[1], input[2])
		}
		if response, body := post(t, anyone, issuer, "/undo-email", form); response.StatusCode != http.StatusOK || !strings.Contains(body, "undone") {
			t.Fatalf("undo: %d", response.StatusCode)
		}
	}
	link := func() string {
		t.Helper()
		b := signedIn(t, issuer)
		start, _ := post(t, b, issuer, "/account/linked", url.Values{"provider": {"corp"}})
		if response, _ := atProvider(t, b, issuer, start, person.New("alice", password)); response.StatusCode != http.StatusSeeOther {
			t.Fatalf("link: %d", response.StatusCode)
		}
		return noticeOf("added")
	}
	links := func() []string {
		t.Helper()
		_, body := get(t, signedIn(t, issuer), issuer+"/account/linked")
		return unlinkID.FindStringSubmatch(body)
	}
	undo(link())
	if links() != nil {
		t.Error("the link is still there")
	}
	link()
	post(t, signedIn(t, issuer), issuer, "/account/linked", url.Values{"unlink": {links()[1]}})
	if undo(noticeOf("removed")); links() == nil {
		t.Error("the link was not restored")
	}
}
