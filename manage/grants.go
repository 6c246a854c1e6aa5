package manage

import (
	"context"
	"errors"
	"net/http"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/manage/api"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

func (a *API) registerGrants() {
	register(a, api.GrantsRead, operation{id: "list-user-grants", method: http.MethodGet, path: "/users/{sub}/grants", summary: "List what a user has allowed clients"}, a.listUserGrants)
	register(a, api.GrantsRead, operation{id: "list-client-grants", method: http.MethodGet, path: "/clients/{client_id}/grants", summary: "List what users have allowed a client"}, a.listClientGrants)
	register(a, api.GrantsWrite, operation{id: "delete-user-grants", method: http.MethodDelete, path: "/users/{sub}/grants", summary: "Revoke everything that a user has allowed clients, with every token"}, a.deleteGrants)
	register(a, api.GrantsWrite, operation{id: "delete-grant", method: http.MethodDelete, path: "/users/{sub}/grants/{client_id}", summary: "Revoke what a user has allowed a client, with every token"}, a.deleteGrant)
}

type listGrantsOutput struct{ Body api.GrantPage }

type listUserGrantsInput struct {
	UserID
	List
}

func (a *API) listUserGrants(ctx context.Context, _ *principal, in *listUserGrantsInput) (*listGrantsOutput, error) {
	if _, err := a.config.Store.User(ctx, in.ID); err != nil {
		return nil, err
	}
	grants, err := a.config.Store.GrantsOf(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	page, next, err := pageOf(&in.List, grants, func(g *record.Grant) string { return g.ClientID })
	return grantPage(page, next), err
}

type listClientGrantsInput struct {
	ClientID
	List
}

func (a *API) listClientGrants(ctx context.Context, _ *principal, in *listClientGrantsInput) (*listGrantsOutput, error) {
	all := func(*record.Grant) bool { return true }
	grants, next, err := filtered(&in.List,
		func(after string, limit int) ([]record.Grant, error) {
			return a.config.Store.GrantsTo(ctx, in.ID, after, limit)
		},
		func(g *record.Grant) string { return g.Subject }, all)
	return grantPage(grants, next), err
}

func grantPage(grants []record.Grant, next string) *listGrantsOutput {
	page := api.GrantPage{Grants: make([]api.Grant, len(grants)), Page: api.Page{Next: next}}
	for i := range grants {
		g := &grants[i]
		page.Grants[i] = api.Grant{ID: g.ID, Subject: g.Subject, ClientID: g.ClientID, Scope: g.Scope.String(), Declined: g.Declined.String(),
			Resources: g.Resources, EarlierDetails: g.Details.Earlier, CreatedAt: g.CreatedAt.UTC(), UpdatedAt: g.UpdatedAt.UTC()}
		for _, d := range g.Details.Latest {
			page.Grants[i].AuthorizationDetails = append(page.Grants[i].AuthorizationDetails, api.GrantedDetail(d))
		}
	}
	return &listGrantsOutput{page}
}

type deleteGrantsInput struct {
	UserID
	Change
}

func (a *API) deleteGrants(ctx context.Context, _ *principal, in *deleteGrantsInput) (*struct{}, error) {
	if _, err := a.config.Store.User(ctx, in.ID); err != nil || in.DryRun {
		return nil, err
	}
	return nil, authserver.RevokeSubject(ctx, a.config.Store, in.ID)
}

type deleteGrantInput struct {
	UserID
	Change
	Client string `path:"client_id" maxLength:"512"`
}

func (a *API) deleteGrant(ctx context.Context, _ *principal, in *deleteGrantInput) (*struct{}, error) {
	grant, err := a.config.Store.Grant(ctx, in.ID, in.Client)
	if err != nil || in.DryRun {
		return nil, err
	}
	err = a.config.Store.DeleteGrant(ctx, grant.ID)
	if errors.Is(err, storage.ErrNotFound) {
		err = nil
	}
	return nil, err
}
