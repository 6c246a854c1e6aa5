package ui

import (
	"errors"
	"mime"
	"net/http"
)

// maxFormBytes is the maximum size of a submitted form.
const maxFormBytes = 64 << 10

// param returns a parameter, from the form of a POST or from the query otherwise.
func param(r *http.Request, name string) string {
	if r.Method == http.MethodPost {
		return r.PostForm.Get(name)
	}
	return r.URL.Query().Get(name)
}

// acceptForm parses the form of a POST and reports whether to process it. If not, it has
// written an error page.
//
// A form must come from one of these pages. Browsers state the origin in Sec-Fetch-Site or
// Origin, which other sites cannot set. A request without both is refused.
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
