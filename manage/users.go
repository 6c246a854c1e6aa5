package manage

import (
	"cmp"
	"context"
	"net/http"
	"strings"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/manage/api"
)

// UserID is the path parameter of a user.
type UserID struct {
	ID string `path:"sub" maxLength:"255"`
}

type userOutput struct {
	ETag string `header:"ETag"`
	Body api.User
}

func (a *API) registerUsers() {
	register(a, api.UsersRead, operation{id: "list-users", method: http.MethodGet, path: "/users", summary: "List users"}, a.listUsers)
	register(a, api.UsersRead, operation{id: "get-user", method: http.MethodGet, path: "/users/{sub}", summary: "Get a user"}, a.getUser)
}

type listUsersInput struct {
	List
	Query    string `query:"q" maxLength:"255" doc:"Part of the username, email address or name, without case"`
	Role     string `query:"role" enum:"administrator,operator,support,auditor" doc:"Only users with this role"`
	Disabled string `query:"disabled" enum:"true,false" doc:"Only users who are disabled, or only others"`
}

type listUsersOutput struct{ Body api.UserPage }

func (a *API) listUsers(ctx context.Context, _ *principal, in *listUsersInput) (*listUsersOutput, error) {
	query := strings.ToLower(in.Query)
	found, next, err := filtered(&in.List,
		func(after string, limit int) ([]identity.User, error) { return a.config.Store.Users(ctx, after, limit) },
		func(u *identity.User) string { return u.ID },
		func(u *identity.User) bool {
			name, _ := u.Claims["name"].(string)
			return (strings.Contains(strings.ToLower(u.Username), query) || strings.Contains(strings.ToLower(u.Email()), query) || strings.Contains(strings.ToLower(name), query)) &&
				(in.Role == "" || api.Role(in.Role) == heldRole(u)) &&
				(in.Disabled == "" || (in.Disabled == "true") == u.Disabled)
		})
	if err != nil {
		return nil, err
	}
	page := api.UserPage{Users: make([]api.User, len(found)), Page: api.Page{Next: next}}
	for i := range found {
		page.Users[i] = a.userBody(&found[i])
	}
	return &listUsersOutput{page}, nil
}

func (a *API) getUser(ctx context.Context, _ *principal, in *UserID) (*userOutput, error) {
	u, err := a.config.Store.User(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return a.userOutput(u)
}

func (a *API) userOutput(u *identity.User) (*userOutput, error) {
	tag, err := a.userTag(u)
	return &userOutput{tag, a.userBody(u)}, err
}

// userTag returns the ETag of a user. Signing in does not change it.
func (a *API) userTag(u *identity.User) (string, error) {
	body := a.userBody(u)
	for i := range body.Methods {
		body.Methods[i].LastUsed = nil
	}
	for i := range body.Links {
		body.Links[i].LastUsedAt, body.Links[i].Label = nil, ""
	}
	return a.tag("user", body, u.PasswordHash)
}

func (a *API) userBody(u *identity.User) api.User {
	body := api.User{
		ID: u.ID, Username: u.Username, Claims: u.Claims, Disabled: u.Disabled, Role: heldRole(u), Origin: u.Origin,
		LockedAt: optionalTime(u.Account.LockedAt), DeleteAfter: optionalTime(u.Account.DeleteAfter), RetiredAt: optionalTime(u.RetiredAt),
		CreatedAt: u.CreatedAt.UTC(), UpdatedAt: u.UpdatedAt.UTC(), DeclaredBy: a.fileOf(u.DeclaredBy),
		HasPassword: u.PasswordHash != "", Links: []api.UserLink{}, Methods: []api.Method{},
	}
	if body.Claims == nil {
		body.Claims = map[string]any{}
	}
	for _, m := range u.Methods() {
		body.Methods = append(body.Methods, api.Method{ID: m.ID, Kind: string(m.Kind), Name: m.Name, CreatedAt: m.CreatedAt.UTC(), LastUsed: optionalTime(m.LastUsedAt)})
	}
	for _, l := range u.External {
		body.Links = append(body.Links, api.UserLink{ID: l.ID, Provider: l.Provider, Issuer: l.Issuer, Subject: l.Subject, Label: cmp.Or(l.Label, l.Email),
			LinkedAt: l.LinkedAt.UTC(), LastUsedAt: optionalTime(l.LastUsedAt)})
	}
	return body
}
