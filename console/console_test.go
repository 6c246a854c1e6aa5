package console_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey"
	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/database"
	"github.com/valetkey/valetkey/manage"
	"github.com/valetkey/valetkey/manage/api"
	"github.com/valetkey/valetkey/storage"
)

const password = "an operator's long password"

// world is a complete server with an administrator, whose browser is signed in.
type world struct {
	*valetkey.Server
	url string
	// configuration is that of the server.
	configuration configuration.Configuration
	admin         *browser
	// root calls the API as the administrator, whose sub is rootID.
	root   *api.Connection
	rootID string
}

// browser is a browser without scripts.
type browser struct {
	t      *testing.T
	url    string
	client *http.Client
}

func newBrowser(t *testing.T, server string) *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{t, server, &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// shown is a response.
type shown struct {
	t        *testing.T
	status   int
	location string
	body     string
	header   http.Header
}

func (b *browser) do(r *http.Request) shown {
	b.t.Helper()
	response, err := b.client.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return shown{b.t, response.StatusCode, strings.TrimPrefix(response.Header.Get("Location"), b.url), string(body), response.Header}
}

func (b *browser) get(path string) shown {
	b.t.Helper()
	r, err := http.NewRequest(http.MethodGet, b.url+path, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.do(r)
}

// post submits a form of the server's own pages.
func (b *browser) post(path string, form url.Values) shown {
	b.t.Helper()
	return b.postFrom(b.url, path, form)
}

func (b *browser) postFrom(origin, path string, form url.Values) shown {
	b.t.Helper()
	r, err := http.NewRequest(http.MethodPost, b.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", origin)
	return b.do(r)
}

// want fails unless the response has a status and the texts.
func (s shown) want(status int, texts ...string) shown {
	s.t.Helper()
	if s.status != status {
		s.t.Fatalf("status %d, want %d, Location %q:\n%s", s.status, status, s.location, s.body)
	}
	for _, text := range texts {
		if !strings.Contains(s.body, text) {
			s.t.Fatalf("the page lacks %q:\n%s", text, s.body)
		}
	}
	return s
}

// lacks fails if the page has one of the texts.
func (s shown) lacks(texts ...string) shown {
	s.t.Helper()
	for _, text := range texts {
		if strings.Contains(s.body, text) {
			s.t.Fatalf("the page has %q:\n%s", text, s.body)
		}
	}
	return s
}

// redirects fails unless the response redirects to a path.
func (s shown) redirects(path string) shown {
	s.t.Helper()
	if s.status != http.StatusSeeOther || s.location != path {
		s.t.Fatalf("status %d to %q, want a redirect to %q:\n%s", s.status, s.location, path, s.body)
	}
	return s
}

var hiddenField = regexp.MustCompile(`<input type="hidden" name="([^"]+)" value="([^"]*)">`)

// hidden returns the hidden fields of the page, of its first form that has each.
func (s shown) hidden() url.Values {
	form := url.Values{}
	for _, m := range hiddenField.FindAllStringSubmatch(s.body, -1) {
		if !form.Has(m[1]) {
			form.Set(m[1], strings.NewReplacer("&#34;", `"`, "&#39;", "'", "&amp;", "&", "&lt;", "<", "&gt;", ">", "&#43;", "+").Replace(m[2]))
		}
	}
	return form
}

// with returns a form with more fields: name, value, …
func with(form url.Values, fields ...string) url.Values {
	for i := 0; i < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	return form
}

func start(t *testing.T) *world {
	t.Helper()
	return startWith(t, nil)
}

// startWith starts a server with external keys.
func startWith(t *testing.T, external []authserver.ExternalKey) *world {
	t.Helper()
	w := &world{}
	listener := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.ServeHTTP(rw, r) }))
	t.Cleanup(listener.Close)
	w.url = listener.URL
	config := valetkey.Config{
		Configuration: configuration.Configuration{Issuer: w.url, Database: "sqlite:" + filepath.Join(t.TempDir(), "test.db")},
		Logger:        slog.New(slog.NewTextHandler(io.Discard, nil)),
		ExternalKeys:  external,
	}
	w.configuration = config.Configuration
	var err error
	if w.Server, err = valetkey.New(config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	link, err := w.SetupURL(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.admin = newBrowser(t, w.url)
	page := w.admin.get(strings.TrimPrefix(link, w.url)).want(http.StatusOK)
	if created := w.admin.post("/setup", with(page.hidden(), "username", "root", "password", password)); created.status != http.StatusSeeOther {
		t.Fatalf("the administrator was not created: %d\n%s", created.status, created.body)
	}
	found := regexp.MustCompile(`/console/user\?id=([^"]+)`).FindStringSubmatch(w.admin.get("/console/users").want(http.StatusOK).body)
	if found == nil {
		t.Fatal("the console does not show the administrator")
	}
	w.rootID = found[1]
	w.root = w.Management().Connect(manage.Caller{UserID: w.rootID})
	return w
}

// operator returns the browser of a new user with a role, who has signed in.
func (w *world) operator(t *testing.T, name string, role api.Role) *browser {
	t.Helper()
	user, err := w.root.CreateUser(t.Context(), &api.UserMembers{Username: name}, api.Change{})
	if err == nil && role != "" {
		user, err = w.root.SetUserRole(t.Context(), user.ID, user.ETag, role, api.Change{})
	}
	if err != nil {
		t.Fatal(err)
	}
	link, err := w.root.CreateRecovery(t.Context(), user.ID, api.LinkRequest{}, api.Change{})
	if err != nil {
		t.Fatal(err)
	}
	return w.recovered(link.URL, name)
}

// recovered returns the browser of a user who has set a password with a link and signed in.
func (w *world) recovered(link, username string) *browser {
	b := newBrowser(w.admin.t, w.url)
	page := b.get(strings.TrimPrefix(link, w.url)).want(http.StatusOK)
	b.post("/recover", with(page.hidden(), "new", password)).want(http.StatusOK)
	b.get("/console").redirects("/sign-in")
	if in := b.post("/sign-in", url.Values{"identifier": {username}, "password": {password}}); in.status != http.StatusSeeOther {
		b.t.Fatalf("%s cannot sign in: %d\n%s", username, in.status, in.body)
	}
	return b
}

func TestASignInLeadsBackToTheConsole(t *testing.T) {
	w := start(t)
	b := newBrowser(t, w.url)
	b.get("/console/client?id=abc").redirects("/sign-in")
	signedIn := b.post("/sign-in", url.Values{"identifier": {"root"}, "password": {password}})
	if signedIn.status != http.StatusSeeOther {
		t.Fatalf("sign-in: %d\n%s", signedIn.status, signedIn.body)
	}
	b.get(signedIn.location).redirects("/console/client?id=abc")
	b.get("/console/client?id=abc").want(http.StatusNotFound, "This does not exist")
}

func TestUsersWithoutARoleSeeNothing(t *testing.T) {
	w := start(t)
	b := w.operator(t, "ada", "")
	for _, path := range []string{"/console", "/console/clients", "/console/users", "/console/user?id=" + w.rootID, "/console/audit"} {
		b.get(path).want(http.StatusForbidden, "You do not manage this server").lacks("root", "/console/clients")
	}
	b.post("/console/user/role", url.Values{"id": {w.rootID}, "role": {"administrator"}}).want(http.StatusForbidden)
}

func TestClientsInTheConsole(t *testing.T) {
	w := start(t)
	w.admin.get("/console").want(http.StatusOK, "Add a client")
	w.admin.get("/console/clients").want(http.StatusOK, "There are no clients yet")
	form := url.Values{"client_name": {"Notes"}, "kind": {"web"}, "redirect_uris": {"https://notes.example.com/callback\n"}, "scope": {"openid profile"}, "client_id": {"notes"}}
	created := w.admin.post("/console/clients/new", form).want(http.StatusOK, "The client secret", "It is not shown again")
	if secret := regexp.MustCompile(`<code>([A-Z0-9]{40,})</code>`).FindStringSubmatch(created.body); secret == nil {
		t.Fatalf("no secret:\n%s", created.body)
	}
	w.admin.get("/console/client?id=notes").want(http.StatusOK, "https://notes.example.com/callback").lacks("The client secret</h2>")

	// A form that does not make a valid client shows what is wrong and keeps what was typed.
	w.admin.post("/console/clients/new", with(url.Values{}, "client_name", "Broken", "kind", "web", "redirect_uris", "http://example.com/cb#fragment")).
		want(http.StatusUnprocessableEntity, `role="alert"`, "redirect_uris", `value="Broken"`)

	// Two operators change the client at the same time: the second one is told.
	first, second := w.admin.get("/console/client/edit?id=notes").hidden(), w.admin.get("/console/client/edit?id=notes").hidden()
	change := func(form url.Values, name string) shown {
		return w.admin.post("/console/client/edit", with(form, "client_name", name, "kind", "web", "redirect_uris", "https://notes.example.com/callback", "scope", "openid"))
	}
	change(first, "Notes 2").redirects("/console/client?id=notes")
	w.admin.get("/console/client?id=notes").want(http.StatusOK, "The client was changed", "Notes 2")
	change(second, "Notes 3").want(http.StatusPreconditionFailed, "has changed since")
	w.admin.get("/console/client?id=notes").want(http.StatusOK, "Notes 2")

	// A name does not change the direction of the text after it.
	w.admin.get("/console/client/delete?id=notes").want(http.StatusOK, "Delete \u2068Notes 2\u2069?")

	// Another site cannot submit the forms.
	w.admin.postFrom("https://evil.example.com", "/console/client/delete", w.admin.get("/console/client/delete?id=notes").hidden()).want(http.StatusForbidden)
	w.admin.post("/console/client/delete", w.admin.get("/console/client/delete?id=notes").hidden()).redirects("/console/clients")
	w.admin.get("/console/client?id=notes").want(http.StatusNotFound)
}

func TestUsersInTheConsole(t *testing.T) {
	w := start(t)
	created := w.admin.post("/console/users/new", url.Values{"username": {"ada"}, "name": {"Ada Lovelace"}, "email": {"ada@example.com"}})
	if created.status != http.StatusSeeOther {
		t.Fatalf("status %d:\n%s", created.status, created.body)
	}
	page := w.admin.get(strings.TrimPrefix(created.location, w.url)).want(http.StatusOK, "Ada Lovelace", "cannot sign in yet")
	id := page.hidden().Get("id")
	w.admin.post("/console/user/role", with(page.hidden(), "role", "support")).redirects("/console/user?id=" + id)
	link := w.admin.post("/console/user/recovery", url.Values{"id": {id}}).want(http.StatusOK, "A link for this user")
	address := regexp.MustCompile(`id="new-link"><code>([^<]+)</code>`).FindStringSubmatch(link.body)
	if address == nil {
		t.Fatalf("no link:\n%s", link.body)
	}
	ada := w.recovered(strings.ReplaceAll(address[1], "&amp;", "&"), "ada")

	// Support sees users and ends sessions, and nothing else.
	ada.get("/console/user?id="+id).want(http.StatusOK, "End session and its tokens").lacks("/console/user/edit", "/console/user/delete", "/console/user/recovery", "/console/audit")
	ada.post("/console/user/recovery", url.Values{"id": {w.rootID}}).want(http.StatusForbidden, "You may not do this")
	ada.post("/console/user/role", with(url.Values{}, "id", id, "etag", "*", "role", "administrator")).want(http.StatusForbidden)
	ada.get("/console/audit").want(http.StatusForbidden)

	// Her session ends.
	sessions, err := w.root.UserSessions(t.Context(), id)
	if err != nil || len(sessions.Sessions) != 1 {
		t.Fatalf("sessions %v, %v", sessions, err)
	}
	w.admin.post("/console/user/sessions/end", url.Values{"id": {id}, "session": {sessions.Sessions[0].ID}}).redirects("/console/user?id=" + id)
	ada.get("/console").redirects("/sign-in")

	// The last administrator stays.
	root := w.admin.get("/console/user?id=" + w.rootID)
	w.admin.post("/console/user/role", with(root.hidden(), "role", "")).want(http.StatusConflict, "last administrator")
	w.admin.post("/console/user/delete", w.admin.get("/console/user/delete?id="+id).hidden()).redirects("/console/users")
}

func TestRefusedRequestsAreExplained(t *testing.T) {
	w := start(t)
	w.admin.post("/console/clients/new", url.Values{"client_name": {"Notes"}, "kind": {"browser"}, "redirect_uris": {"https://notes.example.com/callback"}, "client_id": {"notes"}}).want(http.StatusOK)
	refused := newBrowser(t, w.url).get("/authorize?client_id=notes&response_type=code&redirect_uri=https://notes.example.com/callbak").want(http.StatusBadRequest)
	reference := regexp.MustCompile(`[0-9A-Z]{4}-[0-9A-Z]{4}`).FindString(refused.body)
	if reference == "" {
		t.Fatalf("no reference:\n%s", refused.body)
	}
	w.admin.get("/console/explanations?q=" + strings.ToLower(reference)).redirects("/console/explanation?id=" + reference)
	w.admin.get("/console/explanation?id="+reference).want(http.StatusOK, "callbak", "To fix it")
	w.admin.getUntil("/console/explanations?client_id=notes", reference)
	w.admin.get("/console/explanations?client_id=other").want(http.StatusOK, "No request matches").lacks(reference)
}

func TestWhatWouldTheyGet(t *testing.T) {
	w := start(t)
	w.admin.post("/console/clients/new", url.Values{"client_name": {"Notes"}, "kind": {"browser"}, "redirect_uris": {"https://notes.example.com/callback"}, "client_id": {"notes"}, "scope": {"openid profile"}}).want(http.StatusOK)
	w.admin.get("/console/preview?client_id=notes&user=ROOT").want(http.StatusOK, "ID token", "preferred_username", w.rootID)
	w.admin.get("/console/preview?client_id=notes&user=nobody").want(http.StatusNotFound, "There is no user")
	w.admin.get("/console/preview?client_id=other").want(http.StatusOK, "Refused", "create or enable the client")
	w.admin.get("/console/preview?client_id=notes&user=root&scope=made-up").want(http.StatusOK, "Refused", "invalid_scope")
}

func TestTheConsoleShowsTheAuditLog(t *testing.T) {
	w := start(t)
	w.admin.post("/console/users/new", url.Values{"username": {"ada"}})
	page := w.admin.get("/console/audit?live=1").want(http.StatusOK, "user.created", "root", "Pause")
	if page.header.Get("Refresh") == "" {
		t.Error("the live page is not loaded again")
	}
	w.admin.get("/console/audit?event=client.*").want(http.StatusOK, "No record matches").lacks("user.created")
}

// A notice is shown once, and only in the session in which something was done.
func TestNoticesAreBoundToTheSession(t *testing.T) {
	w := start(t)
	w.admin.post("/console/users/new", url.Values{"username": {"ada"}})
	w.admin.get("/console/users").want(http.StatusOK, "The account was created")
	w.admin.get("/console/users").want(http.StatusOK).lacks("The account was created")
	other := w.operator(t, "eve", api.RoleAuditor)
	address, err := url.Parse(w.url)
	if err != nil {
		t.Fatal(err)
	}
	w.admin.post("/console/users/new", url.Values{"username": {"grace"}})
	other.client.Jar.SetCookies(address, onlyNotices(w.admin.client.Jar.Cookies(address)))
	other.get("/console/users").want(http.StatusOK).lacks("The account was created")
}

func onlyNotices(cookies []*http.Cookie) []*http.Cookie {
	var notices []*http.Cookie
	for _, cookie := range cookies {
		if strings.Contains(cookie.Name, "notice") {
			notices = append(notices, cookie)
		}
	}
	if len(notices) == 0 {
		panic(fmt.Sprint("there is no notice among ", cookies))
	}
	return notices
}

func TestAcceptedRequestsInTheConsole(t *testing.T) {
	w := start(t)
	w.admin.post("/console/clients/new", url.Values{"client_name": {"Notes"}, "kind": {"browser"}, "redirect_uris": {"https://notes.example.com/callback"}, "client_id": {"notes"}, "scope": {"openid"}}).want(http.StatusOK)
	w.admin.get("/authorize?client_id=notes&response_type=code&scope=openid&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256&redirect_uri=https://notes.example.com/callback")
	page := w.admin.getUntil("/console/explanations?user=ROOT&outcome=accepted", "notes")
	reference := regexp.MustCompile(`explanation\?id=([0-9A-Z-]+)`).FindStringSubmatch(page.body)
	if reference == nil {
		t.Fatalf("no reference:\n%s", page.body)
	}
	w.admin.get("/console/explanation?id="+reference[1]).want(http.StatusOK, "Accepted", w.rootID, "passed").lacks(": failed")
	w.admin.get("/console/explanations?user=nobody").want(http.StatusUnprocessableEntity, "There is no user")
	w.admin.get("/console/explanations?since=yesterday").want(http.StatusUnprocessableEntity, "The time is not valid")
	w.admin.get("/console/explanations?since=2026-11-27T08:00&until=2026-11-27T08:01").want(http.StatusOK, "No request matches")

	w.admin.post("/console/recordings/begin", url.Values{"client_id": {"notes"}, "user": {"root"}, "lifetime": {"30m"}}).redirects("/console/explanations")
	recording := w.admin.get("/console/explanations").want(http.StatusOK, "Every accepted request is kept", "user <bdi>"+w.rootID)
	id := regexp.MustCompile(`name="id" value="([^"]+)"`).FindStringSubmatch(recording.body)
	w.admin.post("/console/recordings/begin", url.Values{"user": {"nobody"}}).want(http.StatusNotFound)
	w.admin.post("/console/recordings/end", url.Values{"id": {id[1]}}).redirects("/console/explanations")
	w.operator(t, "eve", api.RoleAuditor).get("/console/explanations").want(http.StatusOK).lacks("recordings/begin")
}

func TestHealthInTheConsole(t *testing.T) {
	w := start(t)
	page := w.admin.getUntil("/console/health", "checks passed").want(http.StatusOK, "This node is ready", "Nothing waits", "user.created")
	if page.header.Get("Refresh") != "" {
		t.Error("the page is loaded again although the checks have ended")
	}
	w.operator(t, "sam", api.RoleSupport).get("/console/health").want(http.StatusForbidden)
}

func TestFailedMessagesInTheConsole(t *testing.T) {
	w := start(t)
	w.failMessage(t, "app.example.com", "the client responded with status 500")
	w.admin.get("/console/messages").want(http.StatusOK, "Given up", "app.example.com", "the client responded with status 500")
	w.admin.post("/console/messages/drop", url.Values{"outbox": {"events"}, "id": {"failed"}}).redirects("/console/messages")
	w.admin.get("/console/messages").want(http.StatusOK).lacks("Given up")
}

// failMessage leaves a message that was given up.
func (w *world) failMessage(t *testing.T, receiver, cause string) {
	t.Helper()
	store, err := database.Open(t.Context(), &w.configuration, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	now := time.Now()
	if err := store.AuditOutbox().Enqueue(t.Context(), storage.Message{ID: "failed", Owner: receiver, Created: now, Due: now.Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	if err := store.AuditOutbox().Fail(t.Context(), "failed", now, cause); err != nil {
		t.Fatal(err)
	}
}

// Without sign_up the page of an invitation does not exist.
func TestAnInvitationThatLeadsNowhereIsNotCreated(t *testing.T) {
	w := start(t)
	w.admin.post("/console/users/invite", url.Values{}).want(http.StatusConflict, "sign_up: true").lacks("/sign-up?invitation=")
}
