package ui

import "net/http"

type signOutView struct {
	Interaction string
	ClientName  string
	Person      *personView // nil if nobody is signed in
}

func (s *session) showSignOut(w http.ResponseWriter, r *http.Request) error {
	in, ok := s.interaction(w, r)
	if !ok {
		return nil
	}
	var v signOutView
	a := answer{template: "sign-out", title: "Sign out"}
	if s.who != nil {
		v.Person = person(s.who.User)
	}
	if in != nil {
		v.Interaction = in.ID
		a.formAction = in.FormAction
		if in.Client != nil {
			v.ClientName = clientName(in.Client)
		}
	} else if s.who == nil {
		return s.redirect(w, "/signed-out")
	}
	a.data = v
	return s.write(w, a)
}

func (s *session) signOut(w http.ResponseWriter, r *http.Request) error {
	in, ok := s.interaction(w, r)
	if !ok {
		return nil
	}
	if in != nil {
		s.server.LoggedOut(w, r, in.ID)
		return nil
	}
	if err := s.SignOut(w, r); err != nil {
		return err
	}
	return s.redirect(w, "/signed-out")
}

func (s *session) signedOut(w http.ResponseWriter, r *http.Request) error {
	if s.who != nil {
		return s.redirect(w, "/account")
	}
	return s.write(w, answer{template: "signed-out", title: "You are signed out"})
}
