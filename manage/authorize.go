package manage

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/valetkey/valetkey/audit"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/manage/api"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

// principal is who calls the API, as they are stored at the time of the request.
type principal struct {
	user   *identity.User // nil for a client that calls for itself
	client *record.Client // that sent the access token; nil for a call from within the process
	role   api.Role
	// permissions are those of the role that the access token has, by name or by api.ScopeAll.
	permissions []api.Permission
	address     netip.Addr
}

// id returns the user's ID, or the client's.
func (p *principal) id() string {
	if p.user != nil {
		return p.user.ID
	}
	return p.client.ID
}

// may reports whether the principal has a permission.
func (p *principal) may(permission api.Permission) bool {
	if permission == anyRole {
		return len(p.permissions) > 0
	}
	return slices.Contains(p.permissions, permission)
}

// mustHave returns an error unless the principal has all of the permissions that someone or something
// would have, so that nobody can give more than they have, or take over what has more. what names
// that.
func (p *principal) mustHave(what string, permissions []api.Permission) error {
	for _, permission := range permissions {
		if !p.may(permission) {
			return huma.Error403Forbidden(fmt.Sprintf("%s has permissions that you do not have, such as %s", what, permission))
		}
	}
	return nil
}

type principalKey struct{}

// principalOf returns the principal of a request that authorize has let through, or nil.
func principalOf(ctx context.Context) *principal {
	p, _ := ctx.Value(principalKey{}).(*principal)
	return p
}

// authorize runs before every operation, and is the one place that decides whether the caller may use
// it.
func (a *API) authorize(ctx huma.Context, next func(huma.Context)) {
	r, w := humago.Unwrap(ctx)
	p, err := a.identify(w, r)
	if err != nil {
		a.refuse(r.Context(), w, err)
		return
	}
	permission, ok := ctx.Operation().Metadata[metadataPermission].(api.Permission)
	if !ok || !p.may(permission) {
		detail := "your role does not allow this"
		if permission != anyRole {
			if slices.Contains(p.role.Permissions(), permission) {
				detail = "the access token needs the scope " + string(permission)
			} else {
				detail = fmt.Sprintf("this needs the permission %s, which the role %q does not have", permission, p.role)
			}
			w.Header().Set("WWW-Authenticate", oauth.NewChallenge("Bearer", "realm", a.config.Issuer, "error", string(oauth.InsufficientScope), "scope", string(permission)).String())
		}
		writeProblem(w, http.StatusForbidden, detail)
		return
	}
	acting := audit.WithActor(context.WithValue(r.Context(), principalKey{}, p), p.actor())
	a.once(huma.WithContext(ctx, acting), p, w, next)
}

// actor returns the author of what the principal changes.
func (p *principal) actor() audit.Actor {
	actor := audit.Actor{Kind: audit.KindClient}
	if p.address.IsValid() { // an embedder may have none
		actor.Address = p.address.String()
	}
	if p.client != nil {
		actor.ID, actor.Name = p.client.ID, p.client.ClientName
	}
	if p.user != nil {
		actor.Kind, actor.ClientID, actor.ID, actor.Name = audit.KindUser, actor.ID, p.user.ID, p.user.Username
	}
	return actor
}

// identify returns who sends a request: the user of a call from within the process, or the user or
// client of the access token. The permissions are those that the token has and that the role still
// has.
func (a *API) identify(w http.ResponseWriter, r *http.Request) (*principal, error) {
	ctx := r.Context()
	if caller, ok := ctx.Value(callerKey{}).(Caller); ok {
		user, err := a.activeUser(ctx, caller.UserID)
		if err != nil {
			return nil, err
		}
		role := roleOf(user)
		return &principal{user: user, role: role, permissions: role.Permissions(), address: caller.Address}, nil
	}
	access, err := a.config.Engine.VerifyAccess(w, r)
	if err != nil {
		return nil, err
	}
	p := &principal{address: a.config.RemoteAddr(r)}
	if p.client, err = a.client(ctx, access.ClientID); err != nil {
		return nil, unauthorized("client", err)
	}
	if access.Subject != "" {
		if p.user, err = a.activeUser(ctx, access.Subject); err != nil {
			return nil, err
		}
		p.role = roleOf(p.user)
	} else {
		p.role = roleOfClient(p.client)
	}
	for _, permission := range p.role.Permissions() {
		if access.Scope.Has(string(permission)) || access.Scope.Has(api.ScopeAll) {
			p.permissions = append(p.permissions, permission)
		}
	}
	return p, nil
}

func (a *API) activeUser(ctx context.Context, id string) (*identity.User, error) {
	user, err := a.config.Store.User(ctx, id)
	if err == nil && !user.Active() {
		err = storage.ErrNotFound
	}
	if err != nil {
		return nil, unauthorized("user", err)
	}
	return user, nil
}

// unauthorized returns the error for a user or client that could not be read.
func unauthorized(what string, err error) error {
	if errors.Is(err, storage.ErrNotFound) {
		return &oauth.Error{Code: oauth.InvalidToken, Description: "the " + what + " does not exist anymore, or is disabled", Status: http.StatusUnauthorized}
	}
	return fmt.Errorf("read the %s of a request: %w", what, err)
}

func (a *API) registerWhoami() {
	type output struct{ Body api.Whoami }
	register(a, anyRole, operation{id: "whoami", method: http.MethodGet, path: "/whoami", summary: "What the caller is and may do"},
		func(_ context.Context, p *principal, _ *struct{}) (*output, error) {
			who := api.Whoami{Kind: api.CallerClient, ID: p.id(), Role: p.role, Permissions: p.permissions}
			if p.user != nil {
				who.Kind, who.Name = api.CallerUser, p.user.Username
			} else {
				who.Name = p.client.ClientName
			}
			return &output{who}, nil
		})
}
