package console

import (
	"net/http"

	"github.com/valetkey/valetkey/manage/api"
)

type welcomeView struct {
	Steps []welcomeStep
	Left  int
}

// welcomeStep is one of the first things to do on a new server.
type welcomeStep struct {
	Title, Text, URL, Button string
	Done                     bool
}

// showWelcome shows the next steps on a new server. The link that creates the first administrator leads
// here.
func (v *visit) showWelcome(w http.ResponseWriter, r *http.Request) error {
	view := welcomeView{Steps: []welcomeStep{{
		"Protect your own account", "Add a passkey or an authenticator app. Whoever has your password could otherwise manage this server.",
		v.issuer + "/account", "To your account", len(v.who.User.Methods()) > 0,
	}}}
	if v.may(api.ClientsWrite) {
		clients, err := v.api.Clients(r.Context(), api.List{Limit: 1})
		if err != nil {
			return err
		}
		view.Steps = append(view.Steps, welcomeStep{
			"Add your first application", "The console knows the settings of well-known applications such as Grafana, Nextcloud and GitLab.",
			v.base + "/recipes", "Choose an application", len(clients.Clients) > 0,
		})
	}
	if v.may(api.UsersWrite) {
		users, err := v.api.Users(r.Context(), api.List{Limit: 2})
		if err != nil {
			return err
		}
		view.Steps = append(view.Steps, welcomeStep{
			"Invite a colleague", "Give a second person the role administrator too, so that someone can help you if you are locked out.",
			v.base + "/users/invite", "Invite", len(users.Users) > 1,
		})
	}
	for i := range view.Steps {
		if !view.Steps[i].Done {
			view.Left++
		}
	}
	return v.write(w, http.StatusOK, "welcome", "First steps", view)
}
