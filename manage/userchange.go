package manage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/manage/api"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
)

func (a *API) registerUserChanges() {
	register(a, api.UsersWrite, operation{id: "create-user", method: http.MethodPost, path: "/users", summary: "Create a user without a means to sign in", status: http.StatusCreated}, a.createUser)
	register(a, api.UsersWrite, operation{id: "update-user", method: http.MethodPut, path: "/users/{sub}", summary: "Replace the members of a user"}, a.updateUser)
	register(a, api.UsersWrite, operation{id: "delete-user", method: http.MethodDelete, path: "/users/{sub}", summary: "Delete a user and everything that belongs to them"}, a.deleteUser)
	register(a, api.RolesWrite, operation{id: "set-user-role", method: http.MethodPut, path: "/users/{sub}/role", summary: "Set what a user may manage"}, a.setUserRole)
	register(a, api.UsersWrite, operation{id: "remove-user-method", method: http.MethodDelete, path: "/users/{sub}/methods/{id}", summary: "Remove a means to sign in that a user has lost, or a link to another provider unless it is the last means to sign in, and end everything that was issued to the user"}, a.removeMethod)
	register(a, api.UsersWrite, operation{id: "create-recovery", method: http.MethodPost, path: "/users/{sub}/recovery", summary: "Create a link for a user who has lost every way to sign in", status: http.StatusCreated}, a.createRecovery)
	register(a, api.UsersWrite, operation{id: "create-invitation", method: http.MethodPost, path: "/invitations", summary: "Create an invitation to sign up", status: http.StatusCreated}, a.createInvitation)
}

// mayChangeUser returns an error unless the principal has all permissions of a user, and the record is
// the one that they have read.
func (a *API) mayChangeUser(p *principal, u *identity.User, ifMatch string) error {
	tag, err := a.userTag(u)
	if err != nil {
		return err
	}
	if err := mustMatch(ifMatch, tag); err != nil {
		return err
	}
	return mayControlUser(p, u)
}

// mayControlUser returns an error if control over a user, who may be disabled, would give the principal
// more permissions.
func mayControlUser(p *principal, u *identity.User) error {
	return p.mustHave(fmt.Sprintf("the user %q", u.Username), heldRole(u).Permissions())
}

func (a *API) mustNotDeclareUser(u *identity.User) error {
	return mustNotBeDeclared(fmt.Sprintf("the user %q", u.Username), a.fileOf(u.DeclaredBy))
}

// changeUser changes a user whom the principal may control.
func (a *API) changeUser(ctx context.Context, p *principal, id string, in Existing, update func(*identity.User) error) (*userOutput, error) {
	var changed identity.User
	err := a.config.Store.UpdateUser(ctx, id, func(u *identity.User) error {
		if err := a.mayChangeUser(p, u, in.IfMatch); err != nil {
			return err
		}
		if err := update(u); err != nil {
			return err
		}
		if err := mayControlUser(p, u); err != nil {
			return err
		}
		u.UpdatedAt = time.Now().Truncate(time.Millisecond)
		if changed = *u.Clone(); in.DryRun {
			return errDryRun
		}
		return nil
	})
	if err != nil && !errors.Is(err, errDryRun) {
		return nil, err
	}
	return a.userOutput(&changed)
}

// setMembers sets the members of a user.
func setMembers(u *identity.User, m *api.UserMembers) error {
	invalid := func(member string, err error) error {
		return huma.Error422UnprocessableEntity("the user is not valid", &huma.ErrorDetail{Location: "body." + member, Message: err.Error()})
	}
	for name := range m.Claims {
		if err := oauth.CheckClaimName(name); err != nil {
			return invalid("claims."+name, err)
		}
		if slices.Contains([]string{"preferred_username", "updated_at"}, name) {
			return invalid("claims."+name, errors.New("the server sets this claim from the record"))
		}
	}
	if u.Username != m.Username {
		if err := identity.CheckNewUsername(m.Username); err != nil {
			return invalid("username", err)
		}
	}
	u.Username, u.Claims, u.Disabled = m.Username, m.Claims, m.Disabled
	if err := u.Check(); err != nil {
		return huma.Error422UnprocessableEntity("the user is not valid: " + err.Error())
	}
	return nil
}

type createUserInput struct {
	Change
	Body api.UserMembers
}

func (a *API) createUser(ctx context.Context, _ *principal, in *createUserInput) (*userOutput, error) {
	now := time.Now().Truncate(time.Millisecond)
	u := &identity.User{ID: storage.NewID(), Origin: identity.OriginCreated, CreatedAt: now, UpdatedAt: now}
	if err := setMembers(u, &in.Body); err != nil {
		return nil, err
	}
	if in.DryRun {
		for _, identifier := range u.Identifiers() {
			_, err := a.config.Store.UserByIdentifier(ctx, identifier)
			if err == nil {
				return nil, identity.ErrIdentifierTaken
			}
			if !errors.Is(err, storage.ErrNotFound) {
				return nil, err
			}
		}
	} else if err := a.config.Store.CreateUser(ctx, u); err != nil {
		return nil, err
	}
	return a.userOutput(u)
}

type updateUserInput struct {
	UserID
	Existing
	Body api.UserMembers
}

func (a *API) updateUser(ctx context.Context, p *principal, in *updateUserInput) (*userOutput, error) {
	if p.user != nil && p.user.ID == in.ID && in.Body.Disabled {
		return nil, huma.Error409Conflict("you cannot disable yourself")
	}
	return a.changeUser(ctx, p, in.ID, in.Existing, func(u *identity.User) error {
		if err := a.mustNotDeclareUser(u); err != nil {
			return err
		}
		return setMembers(u, &in.Body)
	})
}

type deleteUserInput struct {
	UserID
	Existing
}

func (a *API) deleteUser(ctx context.Context, p *principal, in *deleteUserInput) (*struct{}, error) {
	err := a.config.Store.DeleteUserIf(ctx, in.ID, func(u *identity.User) error {
		if err := a.mayChangeUser(p, u, in.IfMatch); err != nil {
			return err
		}
		if err := a.mustNotDeclareUser(u); err != nil {
			return err
		}
		if in.DryRun {
			return errDryRun
		}
		return nil
	})
	if errors.Is(err, errDryRun) {
		err = nil
	}
	return nil, err
}

type setUserRoleInput struct {
	UserID
	Existing
	Body api.UserRole
}

// setUserRole sets a role. A file can declare who is an administrator, and no other role.
//
// A user who may do more afterwards is signed out everywhere. This also ends what others have created
// who could control the user before, but must not now: a recovery.
func (a *API) setUserRole(ctx context.Context, p *principal, in *setUserRoleInput) (*userOutput, error) {
	return a.changeUser(ctx, p, in.ID, in.Existing, func(u *identity.User) error {
		administrator := in.Body.Role == api.RoleAdministrator
		if administrator != u.Administrator {
			if err := a.mustNotDeclareUser(u); err != nil {
				return err
			}
		}
		before := heldRole(u).Permissions()
		u.Administrator, u.Account.Role = administrator, string(in.Body.Role)
		if administrator {
			u.Account.Role = ""
		}
		more := func(p api.Permission) bool { return !slices.Contains(before, p) }
		if slices.ContainsFunc(in.Body.Role.Permissions(), more) {
			u.End(time.Now(), nil)
		}
		return nil
	})
}

type removeMethodInput struct {
	UserID
	Existing
	Method string `path:"id" maxLength:"255"`
}

func (a *API) removeMethod(ctx context.Context, p *principal, in *removeMethodInput) (*userOutput, error) {
	return a.changeUser(ctx, p, in.ID, in.Existing, func(u *identity.User) error {
		now := time.Now()
		if slices.ContainsFunc(u.Methods(), func(m identity.Authenticator) bool { return m.ID == in.Method }) {
			u.LoseAuthenticator(now, in.Method)
		} else if err := a.config.Accounts.Unlink(u, in.Method); err != nil {
			return err
		}
		u.End(now, nil)
		return nil
	})
}

// Links are valid for at most a month.
const maxLinkLifetime = 30 * 24 * time.Hour

func linkLifetime(r *api.LinkRequest) (time.Duration, error) {
	lifetime := cmp.Or(time.Duration(r.Lifetime), identity.RecoveryLifetime)
	if lifetime < time.Minute || lifetime > maxLinkLifetime {
		return 0, huma.Error422UnprocessableEntity("lifetime must be between 1m and 720h")
	}
	return lifetime, nil
}

type linkOutput struct{ Body api.Link }

type createRecoveryInput struct {
	UserID
	Change
	Body api.LinkRequest
}

func (a *API) createRecovery(ctx context.Context, p *principal, in *createRecoveryInput) (*linkOutput, error) {
	lifetime, err := linkLifetime(&in.Body)
	if err != nil {
		return nil, err
	}
	if in.Body.Email != "" {
		return nil, huma.Error422UnprocessableEntity("email is only for invitations: leave it out, and give the link to the user yourself")
	}
	u, err := a.config.Store.User(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	// A role that the user gets later makes the link stop working (setUserRole).
	if err := mayControlUser(p, u); err != nil {
		return nil, err
	}
	now := time.Now()
	out := &linkOutput{api.Link{ExpiresAt: now.Add(lifetime).UTC()}}
	if in.DryRun {
		return out, nil
	}
	token, err := a.config.Accounts.NewRecovery(ctx, now, u, lifetime)
	if err != nil {
		return nil, err
	}
	out.Body.URL = a.config.Issuer + a.config.RecoveryPath(token)
	return out, nil
}

type createInvitationInput struct {
	Change
	Body api.LinkRequest
}

func (a *API) createInvitation(ctx context.Context, _ *principal, in *createInvitationInput) (*linkOutput, error) {
	lifetime, err := linkLifetime(&in.Body)
	if err != nil {
		return nil, err
	}
	if !a.config.Configuration.SignUp {
		return nil, huma.Error409Conflict("nobody could use the invitation: set sign_up: true in the configuration; with sign_up_requires: invitation, nobody can sign up without one")
	}
	now := time.Now()
	out := &linkOutput{api.Link{ExpiresAt: now.Add(lifetime).UTC()}}
	if in.DryRun {
		return out, nil
	}
	token, err := a.config.Accounts.Invite(ctx, now, in.Body.Email, lifetime, a.config.InvitationPath)
	if errors.Is(err, identity.ErrNoMail) {
		return nil, huma.Error409Conflict("the server cannot send mail: set mail.smtp in the configuration, or leave out email")
	}
	if invalid, ok := errors.AsType[*identity.InvalidUserError](err); ok {
		return nil, huma.Error422UnprocessableEntity(invalid.Error())
	}
	if err != nil {
		return nil, err
	}
	if token != "" {
		out.Body.URL = a.config.Issuer + a.config.InvitationPath(token)
	}
	return out, nil
}
