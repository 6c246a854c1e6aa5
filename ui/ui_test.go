package ui

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/internal/mailtest"
	"github.com/valetkey/valetkey/mail"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/declaration"
	"github.com/valetkey/valetkey/storage/memory"
	"github.com/valetkey/valetkey/storage/record"
)

const password = "lunar module 11"

var passwordHash = sync.OnceValue(func() string { h, _ := identity.HashPassword(password); return h })

// world is an issuer on a loopback port: the real engine and the pages, with a memory store.
type world struct {
	t        *testing.T
	store    *memory.Store
	accounts *identity.Accounts
	ui       *UI
	engine   *authserver.Server
	url      string
	callback string
	// mail is the mail server that receives the messages of outbox; both are nil without mail.
	mail   *mailtest.Server
	log    logged
	outbox *mail.Outbox
}

// logged is what the pages and the accounts of a world have logged.
type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldOn(t, func(*authserver.Config) {})
}

func newWorldOn(t *testing.T, change func(*authserver.Config)) *world {
	t.Helper()
	return newWorldWith(t, nil, change)
}

// newWorldUnder is like newWorld, with a policy.
func newWorldUnder(t *testing.T, policy identity.Policy) *world {
	t.Helper()
	return newWorldOf(t, "127.0.0.1", func(c *identity.Config) { c.Policy = policy }, nil, func(*authserver.Config) {})
}

// newWorldWithMail is like newWorld, with a mail server.
func newWorldWithMail(t *testing.T, change func(*Config)) *world {
	t.Helper()
	return newWorldWith(t, change, func(*authserver.Config) {})
}

// newWorldWith returns a world; with changePages, it has a mail server.
func newWorldWith(t *testing.T, changePages func(*Config), change func(*authserver.Config)) *world {
	t.Helper()
	return newWorldAt(t, "127.0.0.1", changePages, change)
}

// newWorldAt is newWorldWith for an issuer with a host.
func newWorldAt(t *testing.T, host string, changePages func(*Config), change func(*authserver.Config)) *world {
	t.Helper()
	return newWorldOf(t, host, func(*identity.Config) {}, changePages, change)
}

// newWorldWithRecovery is like newWorldWithMail, with other ways to recover an account.
func newWorldWithRecovery(t *testing.T, host string, recovery identity.Recovery, change func(*Config)) *world {
	t.Helper()
	return newWorldOf(t, host, func(c *identity.Config) { c.Recovery = recovery }, change, func(*authserver.Config) {})
}

func newWorldOf(t *testing.T, host string, changeAccounts func(*identity.Config), changePages func(*Config), change func(*authserver.Config)) *world {
	t.Helper()
	w := &world{t: t, store: memory.New(), callback: "https://printer.example.com/callback"}
	server := httptest.NewUnstartedServer(nil)
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	w.url = "http://" + net.JoinHostPort(host, port)
	quiet := slog.New(slog.NewTextHandler(&w.log, nil))
	pageConfig := Config{Issuer: w.url, Store: w.store, SignUp: true, Logger: quiet}
	if changePages != nil {
		w.mail = mailtest.Start(t, mailtest.Options{})
		smtp := mail.SMTP{Host: w.mail.Host, Port: w.mail.Port, CertificateAuthorities: w.mail.Authorities}
		w.outbox, err = mail.New(mail.Config{
			Store: w.store.Mail(), Key: []byte("0123456789abcdef0123456789abcdef"), Base: w.url, From: "login@example.com", Deliver: smtp.Deliver, Logger: quiet,
		})
		if err != nil {
			t.Fatal(err)
		}
		pageConfig.PasswordReset = true
		changePages(&pageConfig)
	}
	accountsConfig := identity.Config{Store: w.store, Logger: quiet, Mail: w.outbox, Pages: MailedPages()}
	changeAccounts(&accountsConfig)
	if w.accounts, err = identity.New(accountsConfig); err != nil {
		t.Fatal(err)
	}
	pageConfig.Accounts = w.accounts
	if w.ui, err = New(pageConfig); err != nil {
		t.Fatal(err)
	}
	config := authserver.Config{
		Issuer: w.url, Store: w.store, Secret: []byte("0123456789abcdef0123456789abcdef"), Logger: quiet,
		Users:  w.ui,
		Pages:  authserver.Pages{Error: w.ui.ErrorPage, SignUp: SignUpPath},
		SignIn: authserver.SignInSettings{ACRValues: w.ui.ACRValues(), Policy: w.ui, BrowserStateCookie: identity.BrowserStateCookie(w.url)},
	}
	change(&config)
	engine, err := authserver.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(engine.Close)
	w.engine = engine
	w.declare(declaration.Declaration{
		Clients: []record.Client{{ID: "printer", ClientMetadata: oauth.ClientMetadata{
			ClientName: "Photo Printer", ClientURI: "https://printer.example.com", RedirectURIs: []string{w.callback},
			PostLogoutRedirectURIs: []string{"https://printer.example.com/bye"},
			InitiateLoginURI:       "https://printer.example.com/sign-in?from=account", TokenEndpointAuthMethod: "none", GrantTypes: []string{"authorization_code", "refresh_token"}, ResponseTypes: []string{"code"},
			Scope: "openid profile email offline_access photos.read photos.write",
		}}},
		Scopes: []record.Scope{
			{Name: "photos.read", Description: "See your photos"},
			{Name: "photos.write", Optional: true},
			{Name: "email", Optional: true},
		},
	})
	pages := w.ui.Handler(engine)
	server.Config.Handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if engine.Handles(r.URL.Path) {
			engine.ServeHTTP(rw, r)
			return
		}
		pages.ServeHTTP(rw, r)
	})
	server.Start()
	t.Cleanup(server.Close)
	return w
}

func (w *world) declare(d declaration.Declaration) {
	w.t.Helper()
	if err := w.store.Declare(w.t.Context(), time.Now(), "test", d); err != nil {
		w.t.Fatal(err)
	}
}

// authorizeURL returns the URL of the client's authorization request.
func (w *world) authorizeURL(change url.Values) string {
	query := url.Values{
		"client_id": {"printer"}, "response_type": {"code"}, "redirect_uri": {w.callback}, "state": {"xyz"},
		"scope":          {"openid email photos.read photos.write"},
		"code_challenge": {"E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"}, "code_challenge_method": {"S256"},
	}
	maps.Copy(query, change)
	return "/authorize?" + query.Encode()
}

func (w *world) addUser(u identity.User) *identity.User {
	w.t.Helper()
	u.CreatedAt, u.UpdatedAt = time.Now(), time.Now()
	if err := w.store.CreateUser(w.t.Context(), &u); err != nil {
		w.t.Fatal(err)
	}
	return &u
}

// updateUser changes a user and returns the result.
func (w *world) updateUser(id string, update func(*identity.User)) (user *identity.User) {
	w.t.Helper()
	err := w.store.UpdateUser(w.t.Context(), id, func(u *identity.User) error {
		update(u)
		user = u
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return user
}

func (w *world) grant(subject, clientID string, scope oauth.Scope) *record.Grant {
	w.t.Helper()
	grant, err := w.store.UpdateGrant(w.t.Context(), subject, clientID, func(grant *record.Grant) error {
		grant.Scope, grant.CreatedAt = scope, time.Now()
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return grant
}

func (w *world) addAlice() *identity.User {
	return w.addUser(identity.User{ID: "a", Username: "alice", PasswordHash: passwordHash(), Claims: map[string]any{"name": "Alice Liddell", "email": "alice@example.com"}})
}

// newBrowser returns a client that keeps cookies and does not follow redirects.
func (w *world) newBrowser() *browserClient {
	jar, err := cookiejar.New(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return &browserClient{w, &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

type browserClient struct {
	*world
	client *http.Client
}

type response struct {
	*http.Response
	body string
}

func (b *browserClient) do(r *http.Request) response {
	b.t.Helper()
	resp, err := b.client.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return response{resp, string(body)}
}

func (b *browserClient) request(method, path string, form url.Values) *http.Request {
	b.t.Helper()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	r, err := http.NewRequestWithContext(b.t.Context(), method, b.url+path, body)
	if err != nil {
		b.t.Fatal(err)
	}
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
		r.Header.Set("Origin", b.url)
	}
	return r
}

func (b *browserClient) get(path string) response {
	b.t.Helper()
	return b.do(b.request("GET", path, nil))
}

func (b *browserClient) post(path string, form url.Values) response {
	b.t.Helper()
	return b.do(b.request("POST", path, form))
}

func (b *browserClient) signIn(identifier, password string) response {
	b.t.Helper()
	return b.post("/sign-in", url.Values{"identifier": {identifier}, "password": {password}})
}

func (r response) want(t *testing.T, status int, contains ...string) {
	t.Helper()
	if r.StatusCode != status {
		t.Errorf("%s %s: status %d, want %d", r.Request.Method, r.Request.URL.Path, r.StatusCode, status)
	}
	for _, s := range contains {
		if !strings.Contains(r.body, s) {
			t.Errorf("%s %s: the page lacks %q:\n%s", r.Request.Method, r.Request.URL.Path, s, r.body)
		}
	}
}

// failing is a store whose disk is full.
type failing struct{ *memory.Store }

func (failing) UserByIdentifier(context.Context, string) (*identity.User, error) {
	return nil, errors.New("the disk is full")
}

// interactionOf returns the interaction in the URL of a page.
func interactionOf(page string) string {
	u, err := url.Parse(page)
	if err != nil {
		return ""
	}
	return u.Query().Get("interaction")
}
