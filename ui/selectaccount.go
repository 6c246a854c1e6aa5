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
	Another    string // leads to the form
}

// writeSelectAccount asks whether to go on as who is signed in, where the application wants
// that to be chosen (prompt=select_account of OpenID Connect Core, section 3.1.2.1).
func (s *session) writeSelectAccount(w http.ResponseWriter, r *http.Request, in *authserver.Interaction) error {
	return s.write(w, answer{
		template: "select-account", title: "Choose an account", formAction: in.FormAction,
		data: selectAccountView{
			waiting: waitingFor(in), Subject: in.Selectable, ClientName: clientOf(r, in), Person: person(s.who.User),
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
	// Somebody else may have signed in since the page was shown: then nothing is chosen,
	// and the page is shown again.
	s.server.Selected(w, r, in.ID, r.PostForm.Get("subject"))
	return nil
}
