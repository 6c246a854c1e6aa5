package console

import (
	"net/http"
	"net/url"

	"github.com/valetkey/valetkey/manage/api"
)

type usersView struct {
	Users  []api.User
	Query  string
	Next   string
	MayAdd bool
}

func (v *visit) showUsers(w http.ResponseWriter, r *http.Request) error {
	list := pageOf(r, "q", "role", "disabled")
	found, err := v.api.Users(r.Context(), list)
	if err != nil {
		return err
	}
	return v.write(w, http.StatusOK, "users", "Users", usersView{found.Users, r.URL.Query().Get("q"), v.nextURL("/users", list, found.Next), v.may(api.UsersWrite)})
}

type userView struct {
	*api.User
	// Sessions, Grants and Tokens are nil if the user of the console may not see them.
	Sessions                    []api.Session
	Grants                      []api.Grant
	Tokens                      []api.Token
	MaySeeSessions, MaySeeGrant bool
	// MayChange is set if the account can be changed here, MayLink if a link for it can be created.
	MayChange, MayLink, MayEnd, MayRevoke, MaySetRole bool
	Roles                                             []api.Role
	// Link is a link to hand to the user, which is shown once.
	Link *api.Link
}

func (v *visit) showUser(w http.ResponseWriter, r *http.Request) error {
	return v.writeUser(w, r, r.URL.Query().Get("id"), nil)
}

func (v *visit) writeUser(w http.ResponseWriter, r *http.Request, id string, link *api.Link) error {
	user, err := v.api.User(r.Context(), id)
	if err != nil {
		return err
	}
	view := userView{User: user, Link: link, Roles: api.Roles(), MaySeeSessions: v.may(api.SessionsRead), MaySeeGrant: v.may(api.GrantsRead)}
	view.MayChange = v.may(api.UsersWrite) && user.DeclaredBy == ""
	view.MayLink, view.MayEnd, view.MayRevoke = v.may(api.UsersWrite), v.may(api.SessionsWrite), v.may(api.GrantsWrite)
	view.MaySetRole = v.may(api.RolesWrite) && user.DeclaredBy == ""
	if view.MaySeeSessions {
		sessions, err := v.api.UserSessions(r.Context(), id)
		if err != nil {
			return err
		}
		tokens, err := v.api.UserTokens(r.Context(), id)
		if err != nil {
			return err
		}
		view.Sessions, view.Tokens = sessions.Sessions, tokens.Tokens
	}
	if view.MaySeeGrant {
		grants, err := v.api.UserGrants(r.Context(), id, api.List{Limit: 100})
		if err != nil {
			return err
		}
		view.Grants = grants.Grants
	}
	return v.write(w, http.StatusOK, "user", user.Username, view)
}

// userForm is the content of the form of a user.
type userForm struct {
	Editing, ETag         string
	Username, Name, Email string
	Disabled              bool
	Problems              []string
}

func readUserForm(form url.Values) userForm {
	return userForm{form.Get("id"), form.Get("etag"), form.Get("username"), form.Get("name"), form.Get("email"), form.Has("disabled"), nil}
}

// members returns the members of a user with those of the form. Claims that the form does not have stay
// as they are.
func (f userForm) members(claims map[string]any) *api.UserMembers {
	set := map[string]any{}
	for name, value := range claims {
		set[name] = value
	}
	for name, value := range map[string]string{"name": f.Name, "email": f.Email} {
		before, _ := set[name].(string)
		switch {
		case value == before:
		case value == "":
			delete(set, name)
		default:
			set[name] = value
		}
		if name == "email" && value != before {
			delete(set, "email_verified") // that was about another address
		}
	}
	return &api.UserMembers{Username: f.Username, Claims: set, Disabled: f.Disabled}
}

func (v *visit) writeUserForm(w http.ResponseWriter, status int, form userForm) error {
	title := "New user"
	if form.Editing != "" {
		title = "Change user"
	}
	return v.write(w, status, "user-form", title, form)
}

func (v *visit) showNewUser(w http.ResponseWriter, _ *http.Request) error {
	return v.writeUserForm(w, http.StatusOK, userForm{})
}

func (v *visit) createUser(w http.ResponseWriter, r *http.Request) error {
	form := readUserForm(r.PostForm)
	user, err := v.api.CreateUser(r.Context(), form.members(nil), api.Change{})
	if err != nil {
		return v.userRefused(w, form, err)
	}
	return v.done(w, at("/user", user.ID), "user-created")
}

func (v *visit) showEditUser(w http.ResponseWriter, r *http.Request) error {
	user, err := v.api.User(r.Context(), r.URL.Query().Get("id"))
	if err != nil {
		return err
	}
	form := userForm{Editing: user.ID, ETag: user.ETag, Username: user.Username, Disabled: user.Disabled}
	form.Name, _ = user.Claims["name"].(string)
	form.Email, _ = user.Claims["email"].(string)
	return v.writeUserForm(w, http.StatusOK, form)
}

func (v *visit) editUser(w http.ResponseWriter, r *http.Request) error {
	form := readUserForm(r.PostForm)
	user, err := v.api.User(r.Context(), form.Editing)
	if err != nil {
		return err
	}
	if _, err := v.api.UpdateUser(r.Context(), form.Editing, form.ETag, form.members(user.Claims), api.Change{}); err != nil {
		return v.userRefused(w, form, err)
	}
	return v.done(w, at("/user", form.Editing), "user-changed")
}

func (v *visit) userRefused(w http.ResponseWriter, form userForm, err error) error {
	problems, status := problemsOf(err)
	if problems == nil {
		return err
	}
	form.Problems = problems
	return v.writeUserForm(w, status, form)
}

func (v *visit) setRole(w http.ResponseWriter, r *http.Request) error {
	id := r.PostForm.Get("id")
	if _, err := v.api.SetUserRole(r.Context(), id, r.PostForm.Get("etag"), api.Role(r.PostForm.Get("role")), api.Change{}); err != nil {
		return err
	}
	return v.done(w, at("/user", id), "user-changed")
}

func (v *visit) removeMethod(w http.ResponseWriter, r *http.Request) error {
	id := r.PostForm.Get("id")
	if _, err := v.api.RemoveUserMethod(r.Context(), id, r.PostForm.Get("etag"), r.PostForm.Get("method"), api.Change{}); err != nil {
		return err
	}
	return v.done(w, at("/user", id), "method-removed")
}

// createRecovery shows a link with which a locked-out user gets back in.
func (v *visit) createRecovery(w http.ResponseWriter, r *http.Request) error {
	id := r.PostForm.Get("id")
	link, err := v.api.CreateRecovery(r.Context(), id, api.LinkRequest{}, api.Change{})
	if err != nil {
		return err
	}
	return v.writeUser(w, r, id, link)
}

func (v *visit) endSession(w http.ResponseWriter, r *http.Request) error {
	id := r.PostForm.Get("id")
	if err := v.api.EndUserSession(r.Context(), id, r.PostForm.Get("session"), api.Change{}); err != nil {
		return err
	}
	return v.done(w, at("/user", id), "session-ended")
}

func (v *visit) endToken(w http.ResponseWriter, r *http.Request) error {
	id := r.PostForm.Get("id")
	if err := v.api.EndToken(r.Context(), r.PostForm.Get("token"), api.Change{}); err != nil {
		return err
	}
	return v.done(w, at("/user", id), "token-ended")
}

func (v *visit) revokeGrant(w http.ResponseWriter, r *http.Request) error {
	id := r.PostForm.Get("id")
	if err := v.api.DeleteGrant(r.Context(), id, r.PostForm.Get("client_id"), api.Change{}); err != nil {
		return err
	}
	return v.done(w, at("/user", id), "grant-revoked")
}

func (v *visit) showEndUser(w http.ResponseWriter, r *http.Request) error {
	user, err := v.api.User(r.Context(), r.URL.Query().Get("id"))
	if err != nil {
		return err
	}
	return v.writeConfirm(w, confirmView{
		ID: user.ID, Title: "Sign out " + user.Username + " everywhere?", Cancel: v.base + at("/user", user.ID), Button: "Sign out everywhere",
		Text: "Every session, code and token of this user ends, in every application and on every device. The user can sign in again. What they have allowed applications to do remains.",
	})
}

func (v *visit) endUser(w http.ResponseWriter, r *http.Request) error {
	id := r.PostForm.Get("id")
	if err := v.api.EndUser(r.Context(), id, api.Change{}); err != nil {
		return err
	}
	return v.done(w, at("/user", id), "user-ended")
}

func (v *visit) showDeleteUser(w http.ResponseWriter, r *http.Request) error {
	user, err := v.api.User(r.Context(), r.URL.Query().Get("id"))
	if err != nil {
		return err
	}
	return v.writeConfirm(w, confirmView{
		ID: user.ID, ETag: user.ETag, Title: "Delete " + user.Username + "?", Cancel: v.base + at("/user", user.ID), Button: "Delete",
		Text: "The account is erased with everything that belongs to it: sign-in methods, sessions, tokens and consents. This cannot be undone. To keep the user out for a while, disable the account instead.",
	})
}

func (v *visit) deleteUser(w http.ResponseWriter, r *http.Request) error {
	if err := v.api.DeleteUser(r.Context(), r.PostForm.Get("id"), r.PostForm.Get("etag"), api.Change{}); err != nil {
		return err
	}
	return v.done(w, "/users", "user-deleted")
}

type inviteView struct {
	Email    string
	Link     *api.Link
	Problems []string
}

func (v *visit) showInvite(w http.ResponseWriter, _ *http.Request) error {
	return v.write(w, http.StatusOK, "invite", "Invite a user", inviteView{})
}

func (v *visit) invite(w http.ResponseWriter, r *http.Request) error {
	view := inviteView{Email: r.PostForm.Get("email")}
	link, err := v.api.CreateInvitation(r.Context(), api.LinkRequest{Email: view.Email}, api.Change{})
	if err != nil {
		problems, status := problemsOf(err)
		if problems == nil {
			return err
		}
		view.Problems = problems
		return v.write(w, status, "invite", "Invite a user", view)
	}
	view.Link = link
	return v.write(w, http.StatusOK, "invite", "Invite a user", view)
}
