package console

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/manage/api"
	"github.com/valetkey/valetkey/ui"
)

//go:embed templates assets
var files embed.FS

// asset is a file that pages load. Its path, below the console, contains a hash of the content, so that
// browsers may keep it forever.
type asset struct {
	path string
	body []byte
}

func loadStyle() (asset, error) {
	body, err := files.ReadFile("assets/console.css")
	if err != nil {
		return asset{}, fmt.Errorf("console: read the style sheet: %w", err)
	}
	sum := sha256.Sum256(body)
	return asset{"/assets/console." + hex.EncodeToString(sum[:6]) + ".css", body}, nil
}

func (c *Console) serveStyle(w http.ResponseWriter, r *http.Request) {
	c.config.Frame.SetHeaders(w.Header())
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	w.Header().Set("Content-Length", strconv.Itoa(len(c.style.body)))
	if r.Method != http.MethodHead {
		w.Write(c.style.body) // an error means that the browser has disconnected
	}
}

// templates are the templates of the pages that were shown so far.
type templates struct {
	mu     sync.Mutex
	shared *template.Template
	parsed map[string]*template.Template
}

// get returns the template of a page. It is parsed when the page is first shown, so that a server whose
// console nobody opens spends nothing on it.
func (t *templates) get(page string) (*template.Template, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if parsed := t.parsed[page]; parsed != nil {
		return parsed, nil
	}
	if t.shared == nil {
		shared, err := template.New("").Funcs(functions).ParseFS(files, "templates/layout.html", "templates/parts.html", "templates/parts-checks.html")
		if err != nil {
			return nil, fmt.Errorf("console: %w", err)
		}
		t.shared, t.parsed = shared, map[string]*template.Template{}
	}
	parsed, err := t.shared.Clone()
	if err == nil {
		parsed, err = parsed.ParseFS(files, "templates/"+page+".html")
	}
	if err != nil {
		return nil, fmt.Errorf("console: %w", err)
	}
	t.parsed[page] = parsed
	return parsed, nil
}

var functions = template.FuncMap{
	// time shows a time. The script of the pages shows it in the browser's time zone.
	"time": func(at any) template.HTML {
		var t time.Time
		switch at := at.(type) {
		case time.Time:
			t = at
		case *time.Time:
			if at != nil {
				t = *at
			}
		}
		if t.IsZero() {
			return "–"
		}
		t = t.UTC()
		return template.HTML(`<time datetime="` + t.Format(time.RFC3339) + `" data-minute>` + t.Format("2 January 2006, 15:04") + ` UTC</time>`)
	},
	"join": strings.Join,
	"raw":  func(value json.RawMessage) string { return compact(value) },
	// value shows a claim: a text as it is, and everything else as JSON.
	"value": func(value any) (string, error) {
		if text, ok := value.(string); ok {
			return text, nil
		}
		var b bytes.Buffer
		encoder := json.NewEncoder(&b)
		encoder.SetEscapeHTML(false) // the template does
		err := encoder.Encode(value)
		return strings.TrimSpace(b.String()), err
	},
	// method and token name kinds of the management API.
	"method": func(kind string) string {
		if name := methodNames[kind]; name != "" {
			return name
		}
		return kind
	},
	"token": func(kind string) string {
		if kind == api.TokenRefresh {
			return "Refresh token"
		}
		return "Access token"
	},
	"outbox":    func(name string) string { return outboxTitle(name) },
	"claims":    func(title string, claims []api.PreviewClaim) claimsView { return claimsView{title, claims} },
	"auditable": func(me *api.Whoami) bool { return slices.Contains(me.Permissions, api.AuditRead) },
	// at returns a page of the console with an ID.
	"at": func(base, path, id string) string { return base + path + "?" + url.Values{"id": {id}}.Encode() },
}

// methodNames are the names of sign-in methods, by their kind.
var methodNames = map[string]string{"passkey": "Passkey", "totp": "Authenticator app", "recovery_code": "Recovery codes", "recovery_codes": "Recovery codes"}

// claimsView are the claims of one token.
type claimsView struct {
	Title  string
	Claims []api.PreviewClaim
}

// frame is the data of the layout.
type frame struct {
	ui.Look
	ConsoleStyle string
	Title        string
	Base         string // path of the console
	Issuer       string // path of the issuer
	Host         string
	Sections     []sectionView
	Me           *api.Whoami
	Notice       string
	Data         any
}

type sectionView struct {
	URL, Title string
	Current    bool
}

// write renders a page. On an error, nothing has been written.
func (v *visit) write(w http.ResponseWriter, status int, name, title string, data any) error {
	parsed, err := v.templates.get(name)
	if err != nil {
		return err
	}
	f := frame{Look: v.config.Frame.Look(), ConsoleStyle: v.base + v.style.path, Title: title, Base: v.base, Issuer: v.issuer, Me: v.me, Data: data}
	if issuer, err := url.Parse(v.config.Issuer); err == nil {
		f.Host = issuer.Host
	}
	if v.me != nil {
		for _, s := range sections {
			if s.needs == "" || v.may(s.needs) {
				f.Sections = append(f.Sections, sectionView{v.base + s.path, s.title, s.name == v.page.section})
			}
		}
	}
	f.Notice = v.takeNotice(w)
	var body bytes.Buffer
	if err := parsed.ExecuteTemplate(&body, "layout.html", f); err != nil {
		return fmt.Errorf("render the page %s: %w", name, err)
	}
	v.config.Frame.SetHeaders(w.Header())
	w.Header().Set("Content-Language", "en")
	w.Header().Set("Content-Length", strconv.Itoa(body.Len()))
	w.WriteHeader(status)
	w.Write(body.Bytes()) // an error means that the browser has disconnected
	return nil
}

// notices are the texts that a page shows after something was done.
var notices = map[string]string{
	"client-created":   "The client was created.",
	"client-changed":   "The client was changed.",
	"request-accepted": "The redirect URI was added. The next request with it is accepted within a second.",
	"secret-removed":   "The older secret was removed.",
	"client-ended":     "Every code and token of the client has ended.",
	"client-deleted":   "The client was deleted. Nothing that was issued to it works anymore.",

	"user-created":   "The account was created. Its user cannot sign in yet: create a link for them below.",
	"user-changed":   "The account was changed.",
	"user-deleted":   "The account was deleted.",
	"user-ended":     "The user is signed out everywhere.",
	"method-removed": "The sign-in method was removed.",
	"session-ended":  "The session has ended, with what was issued in it.",
	"token-ended":    "The token has ended.",
	"grant-revoked":  "The application has lost its access to this account.",

	"client-grant-revoked": "The user’s consent and the tokens that were issued with it have ended.",
	"scope-created":        "The scope was created.",
	"scope-changed":        "The scope was changed.",
	"scope-deleted":        "The scope was deleted.",
	"resource-created":     "The API was created.",
	"resource-changed":     "The API was changed.",
	"resource-deleted":     "The API was deleted.",
	"registration-revoked": "The initial access token was revoked.",
	"keys-rotated":         "The keys were replaced.",
	"key-retired":          "The key was removed. Nothing that it signed is valid any longer.",

	"recording-began": "Every accepted request is kept from now on, until the recording ends.",
	"recording-ended": "The recording has ended. What it has kept stays for a day.",

	"message-retried": "The message is sent now.",
	"message-dropped": "The message was dropped.",
}

// done redirects to a page of the console, which shows a notice once. The notice is in a cookie that is
// bound to the session, so that no other site can make the page show one.
func (v *visit) done(w http.ResponseWriter, path, notice string) error {
	identity.SetNoticeCookie(w, v.config.Issuer, notice+"."+v.noticeMAC(notice))
	return v.redirect(w, path)
}

// redirect sends the browser to a page of the console.
func (v *visit) redirect(w http.ResponseWriter, path string) error {
	v.config.Frame.SetHeaders(w.Header())
	w.Header().Del("Content-Type")
	w.Header().Set("Location", v.base+path)
	w.WriteHeader(http.StatusSeeOther)
	return nil
}

func (v *visit) takeNotice(w http.ResponseWriter) string {
	value := v.notice
	if value == "" {
		return ""
	}
	name, mac, _ := strings.Cut(value, ".")
	if notices[name] == "" || !hmac.Equal([]byte(mac), []byte(v.noticeMAC(name))) {
		return ""
	}
	identity.ClearNoticeCookie(w, v.config.Issuer)
	return notices[name]
}

func (v *visit) noticeMAC(notice string) string {
	mac := hmac.New(sha256.New, []byte(v.secret))
	mac.Write([]byte("valetkey console notice\x00" + notice))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// pageOf returns the page of a list that a request asks for.
func pageOf(r *http.Request, filters ...string) api.List {
	query := r.URL.Query()
	list := api.List{Cursor: query.Get("cursor"), Limit: 50, Filter: url.Values{}}
	for _, name := range filters {
		if value := query.Get(name); value != "" {
			list.Filter.Set(name, value)
		}
	}
	return list
}

// nextURL returns the URL of the next page of a list; "" at the end.
func (v *visit) nextURL(path string, list api.List, next string) string {
	if next == "" {
		return ""
	}
	query := url.Values{"cursor": {next}}
	for name, values := range list.Filter {
		query[name] = values
	}
	return v.base + path + "?" + query.Encode()
}
