package ui

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
)

// Errors of the pages themselves, in addition to the engine's.
const (
	pageNotFound     oauth.ErrorCode = "not_found"
	pageSetupOver    oauth.ErrorCode = "setup_over"
	pageMethod       oauth.ErrorCode = "method_not_allowed"
	pageForeignForm  oauth.ErrorCode = "foreign_form"
	pageBadForm      oauth.ErrorCode = "bad_form"
	pageLinkOver     oauth.ErrorCode = "link_over"
	pageAddressTaken oauth.ErrorCode = "address_taken"
	pageNoCookies    oauth.ErrorCode = "no_cookies"
)

// errorView is the data of an error page.
type errorView struct {
	errorText
	Reference string
	// Contact is where the user can ask for help; nil if that is not known.
	Contact *contactView
	// Code and Description are for the application's developers.
	Code, Description string
	ClientName        string
	// Application is the URL that leads back to the application; "" if it is unknown.
	Application, ApplicationName string
}

// ErrorPage writes the page for a request that failed.
func (u *UI) ErrorPage(w http.ResponseWriter, r *http.Request, e authserver.PageError) {
	if e.Status == 0 {
		e.Status = oauth.StatusOf(e.Code)
	}
	if e.Reference == "" && e.Status < http.StatusInternalServerError && e.Code != pageNotFound {
		u.events.Record(r.Context(), event.PageRefused, slog.String("path", r.URL.Path), slog.String("error", string(e.Code)), event.Address(u.config.RemoteAddr(r)))
	}
	words, known := errorTexts[e.Code]
	switch {
	case known:
	case e.Status == http.StatusTooManyRequests:
		words = errorTexts[oauth.TemporarilyUnavailable]
	case e.Status >= 500:
		words = errorTexts[oauth.ServerError]
	default:
		words = errorTexts[oauth.InvalidRequest]
	}
	v := errorView{
		errorText: words, Reference: e.Reference, Code: string(e.Code), Description: e.Description,
		ClientName: cleanName(e.ClientName),
	}
	if !words.Developers {
		v.Code, v.Description, v.ClientName = "", "", ""
	}
	if e.Code == authserver.PageNotAllowed {
		var contacts []string
		if e.Client != nil {
			contacts = e.Client.Contacts
		}
		v.Contact = u.contact(contacts)
	}
	if v.Application = applicationURI(e.Client, u.config.Issuer); v.Application != "" {
		v.ApplicationName = clientName(translated(e.Client, (&session{UI: u}).preferredLanguage(r, nil)))
	}
	a := pageResponse{status: e.Status, template: "error", title: words.Title(), data: v}
	switch e.Status {
	case http.StatusTooManyRequests:
		if w.Header().Get("Retry-After") == "" {
			a.retryAfter = time.Minute
		}
	case http.StatusServiceUnavailable:
		a.retryAfter = identity.BusyRetryAfter
	}
	client := ""
	if e.Client != nil {
		client = e.Client.ID
	}
	if err := u.write(w, u.errorLanguage(r, e.Status), client, a); err != nil {
		u.log.Log(r.Context(), event.LevelOf(r.Context(), err), "error page not written", "error", err)
		http.Error(w, "Something went wrong.", http.StatusInternalServerError)
	}
}

// NotFound writes the error page for an unknown path.
func (u *UI) NotFound(w http.ResponseWriter, r *http.Request) {
	u.ErrorPage(w, r, pageError(http.StatusNotFound, pageNotFound))
}

func (u *UI) methodNotAllowed(w http.ResponseWriter, r *http.Request, p *page) {
	var allow []string
	if p.get != nil {
		allow = append(allow, http.MethodGet, http.MethodHead)
	}
	if p.post != nil {
		allow = append(allow, http.MethodPost)
	}
	w.Header().Set("Allow", strings.Join(allow, ", "))
	u.ErrorPage(w, r, pageError(http.StatusMethodNotAllowed, pageMethod))
}

// fault logs an internal error and writes the page for it, which contains only a reference, unless the
// browser is gone.
func (u *UI) fault(w http.ResponseWriter, r *http.Request, err error) {
	if event.ClientGone(r.Context(), err) {
		u.log.DebugContext(r.Context(), "the browser closed the connection", "path", r.URL.Path)
		return // nobody would read the page
	}
	if throttled, ok := errors.AsType[*identity.ThrottledError](err); ok {
		w.Header().Set("Retry-After", strconv.Itoa(int(throttled.RetryAfter/time.Second)))
		u.ErrorPage(w, r, pageError(http.StatusTooManyRequests, oauth.TemporarilyUnavailable))
		return
	}
	e := pageError(http.StatusInternalServerError, oauth.ServerError)
	if errors.Is(err, storage.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
		e = pageError(http.StatusServiceUnavailable, oauth.TemporarilyUnavailable)
	}
	e.Reference = newReference()
	u.log.ErrorContext(r.Context(), "page failed", "path", r.URL.Path, "reference", e.Reference, "error", err)
	u.ErrorPage(w, r, e)
}

func pageError(status int, code oauth.ErrorCode) authserver.PageError {
	return authserver.PageError{Status: status, Code: code}
}
