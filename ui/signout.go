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
	// Cancel is the URL for a user who stays signed in.
	Cancel string
	Person *personView // nil if no user is signed in
	// Applications are those that are notified and sign the user out; Staying are the names
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
	a := pageResponse{template: "sign-out", title: text("sign-out.title")}
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

// signedInAt returns the applications that take part in the session: those that are notified of
// its end, and the names of those that are not. The application that requests the sign-out is
// not among the latter.
func (s *session) signedInAt(r *http.Request, in *authserver.Interaction) (notified []signedInView, staying []string, err error) {
	clients, err := s.server.SessionClients(r.Context(), authentication(s.who))
	if err != nil {
		return nil, nil, fmt.Errorf("list the applications of a session: %w", err)
	}
	for _, client := range clients {
		name := clientName(client)
		switch {
		case client.BackchannelLogoutURI != "" || client.FrontchannelLogoutURI != "":
			notified = append(notified, signedInView{name, initial(name)})
		case in == nil || in.Client == nil || in.Client.ID != client.ID:
			staying = append(staying, name)
		}
	}
	return notified, staying, nil
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
	// Frames notify applications of the logout.
	Frames []template.URL
	// ContinueTo is the URL that the user continues to; "" if there is none.
	ContinueTo template.URL
	Host       string
}

func (s *session) signedOut(w http.ResponseWriter, r *http.Request) error {
	a := pageResponse{template: "signed-out", title: text("signed-out.title")}
	var v signedOutView
	if param(r, "interaction") != "" {
		in, ok := s.interaction(w, r)
		if !ok {
			return nil
		}
		if !in.SignedOut {
			return s.redirect(w, "/signed-out")
		}
		// All these URLs are registered for a client, so any scheme is safe here.
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
