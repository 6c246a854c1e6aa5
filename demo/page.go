package demo

import (
	"bytes"
	"context"
	"crypto/rand"
	"embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"image/png"
	"net/http"
	"net/url"
	"sync"
	"time"
)

//go:embed page.html inbox.html authenticator.html style.css icon.svg
var files embed.FS

// page is parsed when the demo runs, because every other command links this package, too.
var page = sync.OnceValue(func() *template.Template { return template.Must(template.ParseFS(files, "page.html")) })

// visitor is the state of one browser, kept in memory.
type visitor struct {
	mu    sync.Mutex
	walks map[string]*walk // by scene
	// appKey is the key in the visitor's authenticator app.
	appKey, appAlert string
}

type visitors struct {
	mu   sync.Mutex
	byID map[string]*visitor
}

const (
	visitorCookie = "valetkey_demo"
	maxVisitors   = 1000
)

func (v *visitors) of(w http.ResponseWriter, r *http.Request) *visitor {
	v.mu.Lock()
	defer v.mu.Unlock()
	if cookie, err := r.Cookie(visitorCookie); err == nil && v.byID[cookie.Value] != nil {
		return v.byID[cookie.Value]
	}
	if len(v.byID) >= maxVisitors {
		clear(v.byID)
	}
	id := rand.Text()
	v.byID[id] = &visitor{walks: map[string]*walk{}}
	http.SetCookie(w, &http.Cookie{Name: visitorCookie, Value: id, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
	return v.byID[id]
}

// breakTimeout limits one step. The longest step waits for an access token to expire.
const breakTimeout = accessTokenLifetime + 10*time.Second

func (d *Demo) appHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", d.showPage)
	mux.HandleFunc("GET /inbox", d.showInbox)
	mux.HandleFunc("GET /authenticator", d.showAuthenticator)
	mux.HandleFunc("POST /authenticator", d.setAuthenticatorKey)
	mux.HandleFunc("GET /style.css", func(w http.ResponseWriter, r *http.Request) { http.ServeFileFS(w, r, files, "style.css") })
	mux.HandleFunc("GET /icon.svg", func(w http.ResponseWriter, r *http.Request) { http.ServeFileFS(w, r, files, "icon.svg") })
	mux.HandleFunc("GET /favicon.ico", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "image/svg+xml")
		http.ServeFileFS(w, r, files, "icon.svg")
	})
	mux.HandleFunc("POST /start", d.step(d.start))
	mux.HandleFunc("POST /break", d.step(d.breakIt))
	mux.HandleFunc("POST /call", d.step(func(ctx context.Context, v *visitor, s *scene, _ *http.Request) (string, error) {
		walk := v.walks[s.key]
		if walk == nil || walk.tokens == nil || s.run != nil {
			return "", nil
		}
		walk.breakage, walk.failed = nil, false
		return "", d.callAPI(ctx, walk)
	}))
	mux.HandleFunc("POST /resume", d.step(func(ctx context.Context, v *visitor, s *scene, _ *http.Request) (string, error) {
		walk := v.walks[s.key]
		if walk == nil || walk.waits == "" {
			return "", nil
		}
		return "", s.resume(ctx, d, walk)
	}))
	for _, s := range scenes() {
		switch {
		case s.callback == "":
		case s.responseType != "":
			mux.HandleFunc("GET "+s.callback, readFragment)
			mux.HandleFunc("POST "+s.callback, d.callback(s))
		default:
			mux.HandleFunc("GET "+s.callback, d.callback(s))
		}
	}
	return http.NewCrossOriginProtection().Handler(mux)
}

// step runs one step of a scene and redirects to where it leads: to the authorization server,
// or back to the page.
func (d *Demo) step(do func(context.Context, *visitor, *scene, *http.Request) (string, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s := sceneNamed(r.FormValue("scene"))
		if s == nil {
			http.NotFound(w, r)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), breakTimeout)
		defer cancel()
		v := d.visitors.of(w, r)
		v.mu.Lock()
		defer v.mu.Unlock()
		to, err := do(ctx, v, s, r)
		if err != nil {
			http.Error(w, "The demo failed: "+err.Error(), http.StatusInternalServerError)
			return
		}
		if to == "" {
			to = "/?scene=" + url.QueryEscape(s.key) + "#" + s.key
		}
		http.Redirect(w, r, to, http.StatusSeeOther)
	}
}

func (d *Demo) start(ctx context.Context, v *visitor, s *scene, _ *http.Request) (string, error) {
	w := &walk{scene: *s}
	v.walks[s.key] = w
	if s.callback != "" {
		return d.begin(ctx, w)
	}
	if s.run != nil {
		return "", s.run(ctx, d, w)
	}
	if err := d.getTokens(ctx, w); err != nil || w.failed {
		return "", err
	}
	return "", d.callAPI(ctx, w)
}

func (d *Demo) breakIt(ctx context.Context, v *visitor, s *scene, r *http.Request) (string, error) {
	b := s.breakNamed(r.FormValue("how"))
	if b == nil {
		return "", fmt.Errorf("unknown breakage %q", r.FormValue("how"))
	}
	w := &walk{scene: *s, breakage: b}
	if before := v.walks[s.key]; before != nil && !b.fresh {
		w.tokens = before.tokens
	}
	needsTokens := !b.only && (b.key == "expired" || b.key == "scope" || s.run != nil)
	v.walks[s.key] = w
	if s.callback != "" && (b.fresh || needsTokens && w.tokens == nil) {
		return d.begin(ctx, w)
	}
	return "", d.misbehave(ctx, w)
}

func (d *Demo) callback(s scene) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), breakTimeout)
		defer cancel()
		v := d.visitors.of(w, r)
		v.mu.Lock()
		defer v.mu.Unlock()
		walk := v.walks[s.key]
		if walk == nil || walk.transaction == nil {
			http.Redirect(w, r, "/", http.StatusSeeOther)
			return
		}
		returned := *r.URL
		if s.responseType != "" {
			returned.RawFragment = r.FormValue("answer")
			if fragment, err := url.PathUnescape(returned.RawFragment); err == nil {
				returned.Fragment = fragment
			}
		}
		err := d.redeem(ctx, walk, &returned)
		if err == nil && walk.breakage != nil && !walk.breakage.fresh && !walk.failed && s.run == nil {
			err = d.misbehave(ctx, walk)
		}
		walk.transaction = nil
		if err != nil {
			walk.failed, walk.result = true, err.Error()
		}
		http.Redirect(w, r, "/?scene="+url.QueryEscape(s.key)+"#"+s.key, http.StatusSeeOther)
	}
}

type groupView struct {
	Title  string
	Scenes []sceneView
}

type sceneView struct {
	Key, Title, About string
	Button            string
	Open              bool
	Breaks            []breakView
	Ran               bool
	HasToken          bool
	Waits, WaitsFor   string
	QRCode            template.URL // "" for none
	How, Breaking     string
	Failed            bool
	Result            string
	Refusal           *Message
	Messages          []Message
}

type breakView struct{ Key, Title, About string }

func (d *Demo) showPage(w http.ResponseWriter, r *http.Request) {
	v := d.visitors.of(w, r)
	v.mu.Lock()
	defer v.mu.Unlock()
	view := struct {
		Issuer, Username, Password string
		Groups                     []groupView
	}{d.issuer, Username, Password, nil}
	for i, s := range scenes() {
		shown := sceneView{Key: s.key, Title: s.title, About: s.about, Button: s.button, Open: i < openScenes || r.FormValue("scene") == s.key}
		for _, b := range s.breaks {
			shown.Breaks = append(shown.Breaks, breakView{b.key, b.title, b.about})
		}
		if walk := v.walks[s.key]; walk != nil {
			shown.Messages = walk.recording.all()
			shown.Ran = len(shown.Messages) > 0
			shown.HasToken = walk.tokens != nil && s.run == nil
			shown.Failed, shown.Result = walk.failed, indentJSON(walk.result)
			shown.Waits, shown.WaitsFor, shown.QRCode = walk.waits, walk.waitsFor, walk.drawnCode()
			shown.Open = true
			if walk.breakage != nil {
				shown.How, shown.Breaking = walk.breakage.key, walk.breakage.title
			}
			for i := range shown.Messages {
				if shown.Messages[i].Refusal != nil {
					shown.Refusal = &shown.Messages[i]
				}
			}
		}
		if n := len(view.Groups); n == 0 || view.Groups[n-1].Title != s.group {
			view.Groups = append(view.Groups, groupView{Title: s.group})
		}
		group := &view.Groups[len(view.Groups)-1]
		group.Scenes = append(group.Scenes, shown)
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	if err := page().Execute(w, view); err != nil {
		fmt.Fprintln(w, "The demo could not render this page.")
	}
}

// drawnCode returns the QR code as a data URL; "" if there is none.
func (w *walk) drawnCode() template.URL {
	if w.qrCode == nil {
		return ""
	}
	var drawn bytes.Buffer
	// Encoding a small gray image into memory cannot fail.
	_ = png.Encode(&drawn, w.qrCode)
	return template.URL("data:image/png;base64," + base64.StdEncoding.EncodeToString(drawn.Bytes()))
}
