package ui

import (
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/ui/messages"
)

const approvePath = "/approve"

// backchannelRequest is what pages show about a backchannel authentication request (CIBA).
type backchannelRequest struct {
	// BindingMessage is the text that the application shows too; "" if there is none.
	BindingMessage string
	When, Expires  *messages.Text
}

// approvalView is a request on the account page.
type approvalView struct {
	backchannelRequest
	ID      string
	Name    string
	Initial string
	Scopes  []scopeView
	Details []string
}

func describeBackchannel(b *authserver.BackchannelRequest) *backchannelRequest {
	return &backchannelRequest{BindingMessage: clean(b.BindingMessage), When: ago(time.Since(b.Began)), Expires: inTime(time.Until(b.Expires))}
}

// showApprove continues with the page for one request, or shows what the user has decided. The link
// alone decides nothing: the user must sign in and press a button.
func (s *session) showApprove(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	switch answer := query.Get("answer"); answer {
	case "allowed", "denied", "later":
		return s.write(w, pageResponse{template: "approve-done", title: text("approve." + answer + ".short"), data: answer})
	}
	if !query.Has("request") {
		return s.redirect(w, "/account")
	}
	err := s.server.BeginBackchannel(w, r, query.Get("request"))
	if errors.Is(err, authserver.ErrNoBackchannelRequest) {
		return s.write(w, pageResponse{status: http.StatusNotFound, template: "approve-done", title: text("approve.gone.short"), data: "gone"})
	}
	return err
}

// deny refuses a request in the list of the account page.
func (s *session) deny(w http.ResponseWriter, r *http.Request) error {
	if done, err := s.needSignIn(w, r); done {
		return err
	}
	err := s.server.DenyBackchannel(r, r.PostForm.Get("request"), s.who.User.ID)
	if errors.Is(err, authserver.ErrNoBackchannelRequest) {
		return s.notify(w, "request-gone")
	}
	if err != nil {
		return err
	}
	return s.notify(w, "request-denied")
}

// approvals returns the requests that wait for the user. If they cannot be read, the rest of the
// account page is shown without them.
func (s *session) approvals(r *http.Request) []approvalView {
	pending, err := s.server.BackchannelRequests(r, s.who.User.ID)
	if err != nil {
		s.log.Log(r.Context(), event.LevelOf(r.Context(), err), "requests on the account page not read", "error", err, slog.String("sub", s.who.User.ID))
		return nil
	}
	var views []approvalView
	for i := range pending {
		in := &pending[i]
		client := translated(in.Client, s.preferredLanguage(r, in))
		v := approvalView{backchannelRequest: *describeBackchannel(in.Backchannel), ID: in.Backchannel.ID, Name: clientName(client)}
		v.Initial = initial(v.Name)
		v.Scopes, _ = s.scopesInWords(in)
		for _, detail := range in.AuthorizationDetails {
			v.Details = append(v.Details, clean(detail.Text))
		}
		views = append(views, v)
	}
	return views
}
