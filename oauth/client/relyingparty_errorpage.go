package client

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"html/template"
	"net/http"
	"sync"

	"github.com/valetkey/valetkey/oauth"
)

const errorStyle = `body{font:1rem/1.5 system-ui,sans-serif;max-width:32rem;margin:15vh auto;padding:0 1rem}h1{font-size:1.4rem}a{margin-right:1.5rem}`

var errorPage = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("error").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark"><title>{{.Title}}</title><style>` + errorStyle + `</style>
<main><h1>{{.Title}}</h1>
<p>{{.Text}}</p>
<p>{{if .TryAgain}}<a href="{{.TryAgain}}">Try again</a>{{end}}<a href="{{.Home}}">Back to the application</a></p></main>
</html>
`))
})

// errorText returns the title and text for the end user.
func errorText(err error) (title, text string) {
	switch {
	case errors.Is(err, ErrRefused):
		return "You cannot sign in here", "You are signed in at the sign-in service, but your account may not use this application."
	case errors.Is(err, &Error{Code: oauth.AccessDenied}):
		return "You are not signed in", "The sign-in was canceled, or access was denied. Nothing was shared with this application."
	case errors.Is(err, ErrState), errors.Is(err, ErrTransaction):
		return "This sign-in is no longer valid", "It took too long, was completed before, or was started in another browser or tab. If this happens every time, check that cookies are enabled."
	}
	return "Sign-in failed", "The sign-in service could not be used. Try again in a moment."
}

// writeErrorPage is the default of RelyingPartyConfig.Error.
func (p *RelyingParty) writeErrorPage(w http.ResponseWriter, r *http.Request, status int, err error) {
	p.logger.WarnContext(r.Context(), "sign-in or sign-out failed", "error", err, "status", status)
	page := struct{ Title, Text, TryAgain, Home string }{Home: p.home}
	page.Title, page.Text = errorText(err)
	if failed, ok := errors.AsType[*SignInError](err); ok {
		page.TryAgain = failed.TryAgain
	}
	hash := sha256.Sum256([]byte(errorStyle))
	header := w.Header()
	header.Set("Content-Security-Policy", "default-src 'none'; style-src 'sha256-"+base64.StdEncoding.EncodeToString(hash[:])+
		"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	if err := errorPage().Execute(w, page); err != nil { // the browser has disconnected
		p.logger.DebugContext(r.Context(), "writing the error page failed", "error", err)
	}
}
