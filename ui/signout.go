package ui

import (
	"cmp"
	"fmt"
	"html/template"
	"net/http"

	"github.com/valetkey/valetkey/authserver"
)

type signOutView struct {
	waiting
	ClientName string
	// Cancel is where a user who stays signed in goes.
	Cancel string
	Person *personView // nil if nobody is signed in
	// Applications are those that are told, and so sign the person out; Staying the names
	// of the others.
	Applications []signedInView
	Staying      []string
}

type signedInView struct{ Name, Initial string }

func (s *session) showSignOut(w http.ResponseWriter, r *http.Request) error {
	in, ok := s.interaction(w, r)
	if !ok {
		return nil
	}
	v := signOutView{waiting: waitingFor(in), Cancel: s.base + "/account"}
	a := answer{template: "sign-out", title: "Sign out"}
	if s.who != nil {
		v.Person = person(s.who.User)
		var err error
		if v.Applications, v.Staying, err = s.signedInAt(r, in); err != nil {
			return err
		}
	}
	if in != nil {
		a.formAction = in.FormAction
		if in.Client != nil {
			v.ClientName = clientName(in.Client)
			v.Cancel = cmp.Or(homeURI(in.Client), v.Cancel)
		}
	} else if s.who == nil {
		return s.redirect(w, "/signed-out")
	}
	a.data = v
	return s.write(w, a)
}

// signedInAt returns the applications that take part in the session: those that are told of
// its end, and the names of those that are not. Who asks for the sign-out knows.
func (s *session) signedInAt(r *http.Request, in *authserver.Interaction) (told []signedInView, staying []string, err error) {
	clients, err := s.server.SessionClients(r.Context(), authentication(s.who))
	if err != nil {
		return nil, nil, fmt.Errorf("list the applications of a session: %w", err)
	}
	for _, client := range clients {
		name := clientName(client)
		switch {
		case client.BackchannelLogoutURI != "" || client.FrontchannelLogoutURI != "":
			told = append(told, signedInView{name, initial(name)})
		case in == nil || in.Client == nil || in.Client.ID != client.ID:
			staying = append(staying, name)
		}
	}
	return told, staying, nil
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
	s.server.SignOut(w, r, nil)
	return nil
}

type signedOutView struct {
	// Frames tell applications of the logout.
	Frames []template.URL
	// ContinueTo is where the person goes on to; "" if they stay.
	ContinueTo template.URL
	Host       string
}

func (s *session) signedOut(w http.ResponseWriter, r *http.Request) error {
	a := answer{template: "signed-out", title: "You are signed out"}
	var v signedOutView
	if param(r, "interaction") != "" {
		in, ok := s.interaction(w, r)
		if !ok {
			return nil
		}
		if !in.SignedOut {
			return s.redirect(w, "/signed-out")
		}
		// All of these are registered for a client, whatever their schemes are.
		v.ContinueTo, v.Host = template.URL(in.ContinueTo), webHost(in.ContinueTo)
		for _, frame := range in.Frames {
			v.Frames = append(v.Frames, template.URL(frame))
			a.frames = append(a.frames, frame)
		}
	} else if s.who != nil {
		return s.redirect(w, "/account")
	}
	a.data = v
	return s.write(w, a)
}
