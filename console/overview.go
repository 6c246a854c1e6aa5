package console

import (
	"net/http"

	"github.com/valetkey/valetkey/manage/api"
)

type overviewView struct {
	Cards []overviewCard
}

// overviewCard is a link of the first page.
type overviewCard struct{ URL, Title, Text string }

func (v *visit) showOverview(w http.ResponseWriter, _ *http.Request) error {
	var data overviewView
	for _, card := range [...]struct {
		path, title, text string
		needs             api.Permission
	}{
		{"/welcome", "First steps", "Protect your account, add an application, invite a colleague.", api.ClientsWrite},
		{"/recipes", "Add a known application", "Grafana, Nextcloud, GitLab and some thirty others, with what to enter there.", api.ClientsWrite},
		{"/clients/new", "Add a client", "An application that users sign in to, or a service that calls an API.", api.ClientsWrite},
		{"/clients", "Clients", "What they may do, their secrets, and everything that was issued to them.", api.ClientsRead},
		{"/users", "Users", "Who they are, how they sign in, and where they are signed in.", api.UsersRead},
	} {
		if v.may(card.needs) {
			data.Cards = append(data.Cards, overviewCard{v.base + card.path, card.title, card.text})
		}
	}
	return v.write(w, http.StatusOK, "overview", "Overview", data)
}
