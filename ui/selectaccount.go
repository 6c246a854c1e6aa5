package ui

import (
	"net/http"

	"github.com/valetkey/valetkey/authserver"
)

type selectAccountView struct {
	waiting
	Subject    string
	ClientName string
	Person     *personView
	Another    string // URL of the sign-in form
}

// writeSelectAccount lets the user confirm the signed-in account, where the application
// requests that (prompt=select_account, OpenID Connect Core, section 3.1.2.1).
func (s *session) writeSelectAccount(w http.ResponseWriter, r *http.Request, in *authserver.Interaction) error {
	return s.write(w, pageResponse{
		template: "select-account", title: text("select-account.title"), formAction: in.FormAction,
		data: selectAccountView{
			waiting: waitingFor(in), Subject: in.Selectable, ClientName: s.clientOf(r, in), Person: person(s.who.User),
			Another: s.base + "/sign-in" + waitingFor(in).query() + "&another",
		},
	})
}

func (s *session) selectAccount(w http.ResponseWriter, r *http.Request) error {
	in, ok := s.interaction(w, r)
	if !ok {
		return nil
	}
	if in == nil {
		return s.redirect(w, "/sign-in")
	}
	// If another user has signed in since the page was shown, nothing is selected and the page
	// is shown again.
	s.server.Selected(w, r, in.ID, r.PostForm.Get("subject"))
	return nil
}
