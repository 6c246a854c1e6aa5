package ui

import (
	"net/http"
	"time"

	"github.com/valetkey/valetkey/ui/messages"
)

// languageView is the section of the account page where the user chooses a language.
type languageView struct {
	Chosen  string // a tag; "" if the browser decides
	Choices []*messages.Language
}

func (s *session) languageChoice() *languageView {
	v := &languageView{Choices: messages.All()}
	if l := userLanguage(s.who.User); l != nil {
		v.Chosen = l.Tag
	}
	return v
}

// setLanguage stores the language that the user has chosen.
func (s *session) setLanguage(w http.ResponseWriter, r *http.Request) error {
	if done, err := s.needSignIn(w, r); done {
		return err
	}
	chosen := r.PostForm.Get("locale")
	for _, l := range messages.All() {
		if chosen == "" || l.Tag == chosen {
			if err := s.config.Accounts.SetLocale(r.Context(), time.Now(), s.who.User.ID, chosen); err != nil {
				return err
			}
			return s.notify(w, "language")
		}
	}
	s.ErrorPage(w, r, pageError(http.StatusBadRequest, pageBadForm))
	return nil
}
