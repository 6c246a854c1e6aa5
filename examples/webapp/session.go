package main

// What a web application has of its own, whoever signs its people in: errors, a page and
// cookies.

import (
	"crypto/rand"
	"html/template"
	"log"
	"net/http"
)

type handler func(http.ResponseWriter, *http.Request) error

func (h handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := h(w, r); err != nil {
		log.Print(err)
		http.Error(w, "That did not work. Go to / and sign in again.", http.StatusBadRequest)
	}
}

var page = template.Must(template.New("").Parse(`<!doctype html><title>Notes</title>
{{with .Name}}<p>Hello, {{.}}.</p><pre>{{$.Answer}}</pre><form method="post" action="/sign-out"><button>Sign out</button></form>
{{else}}<p>Nobody is signed in. <a href="/sign-in">Sign in</a></p>{{end}}`))

// keep gives the browser a new name for what the server keeps for it. Behind https the
// cookie is Secure, and its name begins with "__Host-".
func (a *app) keep(w http.ResponseWriter, cookie string, value any) {
	id := rand.Text()
	a.kept.Store(id, value)
	http.SetCookie(w, &http.Cookie{Name: cookie, Value: id, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
}

func (a *app) load(r *http.Request, cookie string) any {
	c, err := r.Cookie(cookie)
	if err != nil {
		return nil
	}
	value, _ := a.kept.Load(c.Value)
	return value
}
