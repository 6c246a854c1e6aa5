package console

import (
	"net/http"

	"github.com/valetkey/valetkey/manage/api"
)

type usersView struct {
	Users []api.User
	Query string
	Next  string
}

func (v *visit) showUsers(w http.ResponseWriter, r *http.Request) error {
	list := pageOf(r, "q", "role", "disabled")
	found, err := v.api.Users(r.Context(), list)
	if err != nil {
		return err
	}
	return v.write(w, http.StatusOK, "users", "Users", usersView{found.Users, r.URL.Query().Get("q"), v.nextURL("/users", list, found.Next)})
}

func (v *visit) showUser(w http.ResponseWriter, r *http.Request) error {
	user, err := v.api.User(r.Context(), r.URL.Query().Get("id"))
	if err != nil {
		return err
	}
	return v.write(w, http.StatusOK, "user", user.Username, user)
}
