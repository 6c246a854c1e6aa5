package console

import (
	"net/http"
	"strings"

	"github.com/valetkey/valetkey/manage/api"
)

type previewView struct {
	Username, ClientID, Scope string
	Problems                  []string
	*api.Preview
}

// showPreview shows the tokens that a client would get for a user. Nothing is issued.
func (v *visit) showPreview(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	view := previewView{Username: strings.TrimSpace(query.Get("user")), ClientID: strings.TrimSpace(query.Get("client_id")), Scope: query.Get("scope")}
	status := http.StatusOK
	if view.ClientID != "" {
		request := api.PreviewRequest{ClientID: view.ClientID, Scope: strings.Join(strings.Fields(view.Scope), " ")}
		if view.Username != "" {
			user, err := v.userNamed(r, view.Username)
			if err != nil {
				return err
			}
			if user == nil {
				view.Problems = []string{noSuchUser}
				return v.write(w, http.StatusNotFound, "preview", "What would they get?", view)
			}
			request.Subject = user.ID
		}
		var err error
		if view.Preview, err = v.api.Preview(r.Context(), request); err != nil {
			problems, problemStatus := problemsOf(err)
			if api.StatusOf(err) == http.StatusNotFound {
				problems, problemStatus = []string{"There is no client with this client_id."}, http.StatusNotFound
			}
			if problems == nil {
				return err
			}
			view.Problems, status = problems, problemStatus
		}
	}
	return v.write(w, status, "preview", "What would they get?", view)
}

// userNamed returns the user with a sub, a username or an email address; nil if there is none.
func (v *visit) userNamed(r *http.Request, name string) (*api.User, error) {
	user, err := v.api.User(r.Context(), name)
	if err == nil || api.StatusOf(err) != http.StatusNotFound {
		return user, err
	}
	for user, err := range v.api.AllUsers(r.Context(), api.List{Limit: 200, Filter: map[string][]string{"q": {name}}}) {
		if err != nil {
			return nil, err
		}
		if email, _ := user.Claims["email"].(string); strings.EqualFold(user.Username, name) || strings.EqualFold(email, name) {
			return &user, nil
		}
	}
	return nil, nil
}
