package ui

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/storage/memory"
	"github.com/valetkey/valetkey/ui/messages"
)

// everyResponse requests every page in all relevant ways, including ways that fail.
func everyResponse(t *testing.T) []response {
	w := newWorld(t)
	w.addAlice()
	stranger, alice := w.newBrowser(), w.newBrowser()
	consent := alice.toConsent(nil)
	all := []response{
		consent,
		stranger.get(stranger.get(w.authorizeURL(nil)).redirected(t)),
		stranger.signIn("alice", "wrong"),
		stranger.get(w.authorizeURL(url.Values{"client_id": {"nobody"}})),
		stranger.get("/sign-in?interaction=x"),
		stranger.get("/setup?token=x"),
		stranger.get("/nothing"),
		alice.get("/account/password"),
		alice.post("/account/password", url.Values{"current": {"x"}, "new": {"y"}}),
	}
	for _, p := range pages {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "TRACE", "OPTIONS"} {
			all = append(all, stranger.do(stranger.request(method, p.path, nil)), alice.do(alice.request(method, p.path, nil)))
		}
	}
	return all
}

func TestHD01_HD02_CN05_AC15_HeadersOfEveryPage(t *testing.T) {
	for _, r := range everyResponse(t) {
		name := fmt.Sprintf("%s %s (%d)", r.Request.Method, r.Request.URL.Path, r.StatusCode)
		if r.Request.URL.Path == exportPath && strings.HasPrefix(r.Header.Get("Content-Disposition"), "attachment") {
			continue // a file, see TestExport
		}
		for header, want := range map[string]string{
			"X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin",
			"Cross-Origin-Resource-Policy": "same-origin", "Cache-Control": "no-store",
		} {
			if got := r.Header.Get(header); got != want {
				t.Errorf("%s: %s is %q, want %q", name, header, got, want)
			}
		}
		// An application that opens a page in a popup must be able to reach it afterwards, even
		// if the page is an error or a redirect. The account page is never opened in a popup.
		want := ""
		if strings.HasPrefix(r.Request.URL.Path, "/account") && (r.StatusCode == http.StatusOK || strings.Contains(r.body, "<h1>Change your password</h1>")) {
			want = "same-origin"
		}
		if got := r.Header.Get("Cross-Origin-Opener-Policy"); got != want {
			t.Errorf("%s: Cross-Origin-Opener-Policy is %q, want %q", name, got, want)
		}
		if r.StatusCode != http.StatusSeeOther && r.Header.Get("Content-Type") != "text/html; charset=utf-8" {
			t.Errorf("%s: Content-Type is %q", name, r.Header.Get("Content-Type"))
		}
		if r.Header.Get("Permissions-Policy") == "" {
			t.Errorf("%s: no Permissions-Policy", name)
		}
		policy := r.Header.Get("Content-Security-Policy")
		for _, directive := range []string{"default-src 'none'", "style-src 'self'", "script-src 'self'", "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'"} {
			if !strings.Contains(policy, directive) {
				t.Errorf("%s: Content-Security-Policy lacks %s: %s", name, directive, policy)
			}
		}
		if strings.Contains(policy, "unsafe") || strings.Contains(policy, "*") {
			t.Errorf("%s: Content-Security-Policy is loose: %s", name, policy)
		}
		for _, inline := range []string{" style=", "<style", " onclick=", " onsubmit=", "<script>", `src="http`, "@import"} {
			if strings.Contains(r.body, inline) {
				t.Errorf("%s: the page has %q, which the policy forbids", name, inline)
			}
		}
	}
}

func TestFormActionAllowsTheClient(t *testing.T) {
	w := newWorld(t)
	w.addAlice()
	b := w.newBrowser()
	for _, page := range []response{b.get(b.get(w.authorizeURL(nil)).redirected(t)), b.toConsent(nil)} {
		if policy := page.Header.Get("Content-Security-Policy"); !strings.Contains(policy, "form-action 'self' https:") {
			t.Errorf("%s: %s", page.Request.URL.Path, policy)
		}
	}
	h := http.Header{}
	w.ui.setHeaders(h, "https://a.example; script-src *")
	if strings.Contains(h.Get("Content-Security-Policy"), "*") {
		t.Error("a source can smuggle a directive in")
	}
}

// secureHandler serves the pages of an issuer with https and a path.
func secureHandler(t *testing.T) (http.Handler, *memory.Store) {
	t.Helper()
	store := memory.New()
	accounts, err := identity.New(identity.Config{Store: store, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	u, err := New(Config{Issuer: "https://id.example.com/tenant", Accounts: accounts, Store: store, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.CreateUser(t.Context(), &identity.User{ID: "a", Username: "alice", PasswordHash: passwordHash()}); err != nil {
		t.Fatal(err)
	}
	return u.Handler(nil), store
}

func formRequest(target string, form url.Values) *http.Request {
	r := httptest.NewRequest("POST", target, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return r
}

func TestSE01_CookiesOfASignIn(t *testing.T) {
	handler, _ := secureHandler(t)
	rec := httptest.NewRecorder()
	handler.ServeHTTP(rec, formRequest("https://id.example.com/tenant/sign-in", url.Values{"identifier": {"alice"}, "password": {password}}))
	if got := rec.Header().Get("Location"); rec.Code != 303 || got != "/tenant/account?signed_in=1" {
		t.Errorf("status %d, Location %q", rec.Code, got)
	}
	if got := rec.Header().Get("Strict-Transport-Security"); got != "max-age=31536000" {
		t.Errorf("Strict-Transport-Security is %q", got)
	}
	cookies := rec.Result().Cookies()
	if len(cookies) != 3 {
		t.Errorf("%d cookies, want those of the session, the device and the browser state", len(cookies))
	}
	for _, c := range cookies {
		if strings.HasPrefix(c.Name, "__Host-valetkey_state_") {
			// Scripts of this origin read it, even in frames on other sites.
			if !c.Secure || c.HttpOnly || c.SameSite != http.SameSiteNoneMode || c.Path != "/" {
				t.Errorf("cookie %s", c.Raw)
			}
			continue
		}
		if !strings.HasPrefix(c.Name, "__Host-valetkey_") || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" || len(c.Raw) > 4096 {
			t.Errorf("cookie %s", c.Raw)
		}
	}
}

func TestLG14_SignInReplacesTheSession(t *testing.T) {
	w := newWorld(t)
	w.addAlice()
	b := w.newBrowser()
	old := b.signIn("alice", password).Cookies()
	b.signIn("alice", password).redirected(t)
	replay := b.request("GET", "/account", nil)
	b.client.Jar = nil
	for _, cookie := range old {
		replay.AddCookie(cookie)
	}
	b.do(replay).redirectedTo(t, "/sign-in")
}

func TestLG01_EveryFailedSignInLooksTheSame(t *testing.T) {
	w := newWorld(t)
	w.addAlice()
	w.addUser(identity.User{ID: "d", Username: "dora1", PasswordHash: passwordHash(), Disabled: true})
	w.addUser(identity.User{ID: "p", Username: "paul1"})
	b := w.newBrowser()
	want := b.signIn("alice", "wrong")
	want.want(t, 403, "Incorrect username or password", `role="alert"`)
	for _, name := range []string{"dora1", "paul1", "nobod"} {
		got := b.signIn(name, password)
		if got.StatusCode != want.StatusCode || len(got.Cookies()) != 0 || strings.ReplaceAll(got.body, name, "alice") != want.body {
			t.Errorf("%s: status %d, cookies %v:\n%s", name, got.StatusCode, got.Cookies(), got.body)
		}
		for header := range want.Header {
			if header != "Date" && got.Header.Get(header) != want.Header.Get(header) {
				t.Errorf("%s: %s is %q, not %q", name, header, got.Header.Get(header), want.Header.Get(header))
			}
		}
	}
}

func TestLG04_ThrottledSignInHasRetryAfter(t *testing.T) {
	w := newWorld(t)
	w.addAlice()
	b := w.newBrowser()
	for range 5 {
		b.signIn("alice", "wrong")
	}
	r := b.signIn("alice", "wrong")
	r.want(t, 429, "Too many failed attempts", `role="alert"`)
	if wait, err := strconv.Atoi(r.Header.Get("Retry-After")); err != nil || wait < 50 || wait > 60 {
		t.Errorf("Retry-After is %q", r.Header.Get("Retry-After"))
	}
}

func TestLG11_LongPasswordsAndForms(t *testing.T) {
	w := newWorld(t)
	w.addAlice()
	b := w.newBrowser()
	b.signIn("alice", strings.Repeat("x", 1025)).want(t, 400, `role="alert"`)
	b.signIn("alice", strings.Repeat("x", 100_000)).want(t, 413, "could not read the form")
}

func TestST05_ST07_DV08_FormsFromOtherSitesAreRefused(t *testing.T) {
	w := newWorld(t)
	w.addAlice()
	form := url.Values{"identifier": {"alice"}, "password": {password}}
	for name, change := range map[string]func(http.Header){
		"cross-site": func(h http.Header) {
			h.Set("Sec-Fetch-Site", "cross-site")
			h.Set("Origin", "https://evil.example.com")
		},
		"same-site": func(h http.Header) {
			h.Set("Sec-Fetch-Site", "same-site")
			h.Set("Origin", "https://other.example.com")
		},
		"old browser, other origin": func(h http.Header) { h.Del("Sec-Fetch-Site"); h.Set("Origin", "https://evil.example.com") },
		"old browser, null origin":  func(h http.Header) { h.Del("Sec-Fetch-Site"); h.Set("Origin", "null") },
		"no word of its origin":     func(h http.Header) { h.Del("Sec-Fetch-Site"); h.Del("Origin") },
		"text/plain":                func(h http.Header) { h.Set("Content-Type", "text/plain") },
		"no content type":           func(h http.Header) { h.Del("Content-Type") },
		"JSON":                      func(h http.Header) { h.Set("Content-Type", "application/json") },
	} {
		b := w.newBrowser()
		for _, p := range pages {
			if p.post == nil {
				continue
			}
			r := b.request("POST", p.path, form)
			change(r.Header)
			resp := b.do(r)
			if resp.StatusCode != 403 && resp.StatusCode != 415 || len(resp.Cookies()) != 0 {
				t.Errorf("%s: %s: status %d, cookies %v", name, p.path, resp.StatusCode, resp.Cookies())
			}
		}
	}
	b := w.newBrowser()
	r := b.request("POST", "/sign-in", form)
	r.Header.Del("Sec-Fetch-Site")
	r.Header.Set("Origin", w.url)
	b.do(r).redirectedTo(t, "/account?signed_in=1")
}

func TestST08_GetChangesNothing(t *testing.T) {
	w := newWorld(t)
	w.addAlice()
	b := w.newBrowser()
	b.signIn("alice", password).redirected(t)
	for _, p := range pages {
		for _, method := range []string{"GET", "HEAD", "DELETE", "PUT"} {
			r := b.do(b.request(method, p.path, nil))
			changes := p.get == nil
			if (changes || method == "DELETE" || method == "PUT") && (r.StatusCode != 405 || r.Header.Get("Allow") == "") {
				t.Errorf("%s %s: status %d, Allow %q", method, p.path, r.StatusCode, r.Header.Get("Allow"))
			}
		}
	}
	r := b.request("GET", "/account/sessions/end-all", nil)
	r.Header.Set("X-HTTP-Method-Override", "POST")
	b.do(r).want(t, 405)
	b.get("/account").want(t, 200)
}

func TestLG40_NoParameterRedirectsAfterSignIn(t *testing.T) {
	w := newWorld(t)
	w.addAlice()
	for _, name := range []string{"return_to", "next", "redirect", "url", "continue", "signed-in"} {
		for _, to := range []string{"//evil.example.com", `/\evil.example.com`, "/%09/evil.example.com", "https:evil.example.com", "javascript:alert(1)", "https://evil.example.com"} {
			b := w.newBrowser()
			query := "?" + url.Values{name: {to}}.Encode()
			page := b.get("/sign-in" + query)
			page.want(t, 200)
			if strings.Contains(page.body, "evil") {
				t.Errorf("%s=%s reaches the page", name, to)
			}
		}
	}
	b := w.newBrowser()
	b.post("/sign-in?return_to=//evil.example.com", url.Values{"identifier": {"alice"}, "password": {password}, "return_to": {"//evil.example.com"}}).
		redirectedTo(t, "/account?signed_in=1")
}

func TestLG39_PasswordManagersWork(t *testing.T) {
	w := newWorld(t)
	w.addAlice()
	b := w.newBrowser()
	b.get("/sign-in").want(t, 200, `name="identifier" type="text"`, `autocomplete="username"`, `name="password" type="password" autocomplete="current-password"`)
	b.signIn("alice", password).redirected(t)
	page := b.get("/account/password")
	page.want(t, 200, `autocomplete="username"`, `name="current" type="password" autocomplete="current-password"`, `name="new" type="password" autocomplete="new-password"`)
	for _, obstacle := range []string{"maxlength=\"8", "maxlength=\"16", "onpaste", "autocomplete=\"off"} {
		if strings.Contains(page.body, obstacle) {
			t.Errorf("the page has %s", obstacle)
		}
	}
}

func TestEveryFieldHasALabel(t *testing.T) {
	for _, r := range everyResponse(t) {
		for _, id := range regexp.MustCompile(`<input id="([^"]+)"`).FindAllStringSubmatch(r.body, -1) {
			if !strings.Contains(r.body, `<label for="`+id[1]+`"`) {
				t.Errorf("%s: the field %s has no label", r.Request.URL.Path, id[1])
			}
		}
		for _, about := range regexp.MustCompile(`aria-describedby="([^"]+)"`).FindAllStringSubmatch(r.body, -1) {
			for _, id := range strings.Fields(about[1]) {
				if !strings.Contains(r.body, `id="`+id+`"`) {
					t.Errorf("%s: described by %s, which does not exist", r.Request.URL.Path, id)
				}
			}
		}
		if strings.Count(r.body, " autofocus") > 1 {
			t.Errorf("%s: more than one field takes the focus", r.Request.URL.Path)
		}
	}
}

func TestAssetsAreCachedByContentHash(t *testing.T) {
	w := newWorld(t)
	b := w.newBrowser()
	page := b.get("/sign-in")
	names := regexp.MustCompile(`(?:href|src)="(/assets/[^"]+)"`).FindAllStringSubmatch(page.body, -1)
	if len(names) != 3 {
		t.Fatalf("the page loads %v, want a style sheet, a script and an icon", names)
	}
	for _, name := range names {
		r := b.get(name[1])
		r.want(t, 200)
		if r.Header.Get("Cache-Control") != "public, max-age=31536000, immutable" || r.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %v", name[1], r.Header)
		}
		if !regexp.MustCompile(`\.[0-9a-f]{12}\.(css|js|svg)$`).MatchString(name[1]) {
			t.Errorf("%s does not contain a hash of its content", name[1])
		}
		b.do(b.request("POST", name[1], nil)).want(t, 405)
	}
	b.get("/assets/style.css").want(t, 404)
}

func TestLO04_InternalErrorsAreLoggedAndNotShown(t *testing.T) {
	var log bytes.Buffer
	store := memory.New()
	accounts, err := identity.New(identity.Config{Store: failing{store}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	u, err := New(Config{Issuer: "https://id.example.com", Accounts: accounts, Store: store, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	rec := httptest.NewRecorder()
	u.Handler(nil).ServeHTTP(rec, formRequest("https://id.example.com/sign-in", url.Values{"identifier": {"alice"}, "password": {password}}))
	body := rec.Body.String()
	if rec.Code != 500 || !strings.Contains(body, "Something went wrong on our side") || strings.Contains(body, "disk") {
		t.Errorf("status %d:\n%s", rec.Code, body)
	}
	reference := regexp.MustCompile(`<code>([a-z2-7]{10})</code>`).FindStringSubmatch(body)
	if reference == nil || !strings.Contains(log.String(), reference[1]) || !strings.Contains(log.String(), "the disk is full") {
		t.Errorf("the reference %v is not in the log:\n%s", reference, log.String())
	}
	if strings.Contains(log.String(), password) {
		t.Error("the password is in the log")
	}
}

func TestDC18_NamesAreCleanedAndTruncated(t *testing.T) {
	for in, want := range map[string]string{
		"Photo Printer": "Photo Printer", " a\n\tb ": "a b", "a\u202Eb\u200Bc\u2066d\u00ADe": "abcde", "\xff\xfe": "", "é": "é", "🖨️": "🖨",
		"a\u0000b\u007Fc\u0085d": "abc d", "\U000E0041x": "x", "\uE000y": "y",
	} {
		if got := cleanName(in); got != want {
			t.Errorf("cleanName(%+q) = %+q, want %+q", in, got, want)
		}
	}
	long := cleanName(strings.Repeat("é", 10_000))
	if utf8.RuneCountInString(long) != 100 || !strings.HasSuffix(long, "…") {
		t.Errorf("a long name becomes %q", long)
	}
}

func TestDC15_RedirectDestination(t *testing.T) {
	for uri, want := range map[string]struct {
		where  string
		native bool
	}{
		"https://app.example.com/cb":    {"app.example.com", false},
		"http://127.0.0.1:53112/cb":     {"an application on this device (127.0.0.1:53112)", true},
		"http://[::1]:1/cb":             {"an application on this device ([::1]:1)", true},
		"http://localhost/cb":           {"an application on this device (localhost)", true},
		"com.example.app:/cb":           {"an application on this device (com.example.app)", true},
		"https://good.example@evil.com": {"evil.com", false},
	} {
		where, native := destination(uri)
		if words := messages.English.Text(where); words != want.where || native != want.native {
			t.Errorf("destination(%q) = %q, %v; want %q, %v", uri, where, native, want.where, want.native)
		}
	}
}

func TestIssuerWithAPath(t *testing.T) {
	handler, _ := secureHandler(t)
	for path, want := range map[string]int{"/tenant": 303, "/tenant/": 303, "/tenant/sign-in": 200, "/sign-in": 404, "/tenantsign-in": 404, "/": 404} {
		rec := httptest.NewRecorder()
		handler.ServeHTTP(rec, httptest.NewRequest("GET", "https://id.example.com"+path, nil))
		if rec.Code != want {
			t.Errorf("%s: status %d, want %d", path, rec.Code, want)
		}
	}
}
