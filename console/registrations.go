package console

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/valetkey/valetkey/manage/api"
)

type registrationsView struct {
	*api.InitialAccessTokenList
	MayChange bool
}

func (v *visit) showRegistrations(w http.ResponseWriter, r *http.Request) error {
	list, err := v.api.InitialAccessTokens(r.Context())
	if err != nil {
		return err
	}
	return v.write(w, http.StatusOK, "registrations", "Registrations", registrationsView{list, v.may(api.RegistrationsWrite)})
}

// registrationForm is the content of the form of an initial access token.
type registrationForm struct {
	Note     string
	Uses     string
	Days     string
	Problems []string
	// Created is the new token, which is shown once.
	Created *api.CreatedInitialAccessToken
}

func (v *visit) showNewRegistration(w http.ResponseWriter, _ *http.Request) error {
	return v.write(w, http.StatusOK, "registration-new", "New initial access token", registrationForm{Uses: "1", Days: "1"})
}

func (v *visit) createRegistration(w http.ResponseWriter, r *http.Request) error {
	form := registrationForm{Note: strings.TrimSpace(r.PostForm.Get("note")), Uses: r.PostForm.Get("uses"), Days: r.PostForm.Get("days")}
	refuse := func(status int, problems ...string) error {
		form.Problems = problems
		return v.write(w, status, "registration-new", "New initial access token", form)
	}
	uses, usesErr := strconv.Atoi(form.Uses)
	days, daysErr := strconv.Atoi(form.Days)
	if usesErr != nil || daysErr != nil || uses < 1 || days < 1 || days > 366 {
		return refuse(http.StatusUnprocessableEntity, "Enter how many clients may register, and for how many days: 366 at most.")
	}
	token := api.NewInitialAccessToken{Note: form.Note, Uses: uses}
	if err := token.ExpiresIn.UnmarshalText([]byte(strconv.Itoa(24*days) + "h")); err != nil {
		return refuse(http.StatusUnprocessableEntity, err.Error())
	}
	created, err := v.api.CreateInitialAccessToken(r.Context(), token, api.Change{})
	if err != nil {
		problems, status := problemsOf(err)
		if problems == nil {
			return err
		}
		return refuse(status, problems...)
	}
	form.Created = created
	return v.write(w, http.StatusOK, "registration-new", "New initial access token", form)
}

func (v *visit) showRevokeRegistration(w http.ResponseWriter, r *http.Request) error {
	list, err := v.api.InitialAccessTokens(r.Context())
	if err != nil {
		return err
	}
	id := r.URL.Query().Get("id")
	for i := range list.Tokens {
		if list.Tokens[i].ID == id {
			return v.writeConfirm(w, confirmView{
				ID: id, Title: "Revoke this initial access token?", Cancel: v.base + "/registrations", Button: "Revoke",
				Text: "No more clients can register with it. Those that have registered stay.",
			})
		}
	}
	return &api.Problem{Status: http.StatusNotFound, Title: "not found"}
}

func (v *visit) revokeRegistration(w http.ResponseWriter, r *http.Request) error {
	if err := v.api.RevokeInitialAccessToken(r.Context(), r.PostForm.Get("id"), api.Change{}); err != nil {
		return err
	}
	return v.done(w, "/registrations", "registration-revoked")
}
