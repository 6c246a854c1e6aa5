package ui

import (
	"errors"
	"mime"
	"net/http"
)

// maxFormBytes bounds what a form may send.
const maxFormBytes = 64 << 10

// param returns a parameter: of the form in a POST, of the query otherwise.
func param(r *http.Request, name string) string {
	if r.Method == http.MethodPost {
		return r.PostForm.Get(name)
	}
	return r.URL.Query().Get(name)
}

// acceptForm reads the form of a POST and reports whether it may be acted on. If not, it
// has written the page that says why.
//
// A form must come from one of these pages: browsers say so themselves, in Sec-Fetch-Site
// or Origin, which no other site can write. A request that says neither is refused too.
func (u *UI) acceptForm(w http.ResponseWriter, r *http.Request) bool {
	if err := u.crossSite.Check(r); err != nil || r.Header.Get("Sec-Fetch-Site") == "" && r.Header.Get("Origin") == "" {
		u.ErrorPage(w, r, pageError(http.StatusForbidden, pageForeignForm))
		return false
	}
	if mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || mediaType != "application/x-www-form-urlencoded" {
		u.ErrorPage(w, r, pageError(http.StatusUnsupportedMediaType, pageBadForm))
		return false
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxFormBytes)
	if err := r.ParseForm(); err != nil {
		status := http.StatusBadRequest
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			status = http.StatusRequestEntityTooLarge
		}
		u.ErrorPage(w, r, pageError(status, pageBadForm))
		return false
	}
	return true
}
