package manage

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/manage/api"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/declaration"
	"github.com/valetkey/valetkey/storage/record"
)

// ResourceIdentifier is the path parameter of a resource, percent-encoded as one segment.
type ResourceIdentifier struct {
	Identifier string `path:"identifier" maxLength:"1024" doc:"The identifier, percent-encoded as one segment of the path"`
}

type resourceOutput struct {
	ETag string `header:"ETag"`
	Body api.Resource
}

func (a *API) registerResources() {
	register(a, api.ResourcesRead, operation{id: "list-resources", method: http.MethodGet, path: "/resources", summary: "List resources"}, a.listResources)
	register(a, api.ResourcesRead, operation{id: "get-resource", method: http.MethodGet, path: "/resources/{identifier}", summary: "Get a resource"}, a.getResource)
	register(a, api.ResourcesWrite, operation{id: "create-resource", method: http.MethodPost, path: "/resources", summary: "Create a resource", status: http.StatusCreated}, a.createResource)
	register(a, api.ResourcesWrite, operation{id: "update-resource", method: http.MethodPut, path: "/resources/{identifier}", summary: "Replace the members of a resource"}, a.updateResource)
	register(a, api.ResourcesWrite, operation{id: "delete-resource", method: http.MethodDelete, path: "/resources/{identifier}", summary: "Delete a resource"}, a.deleteResource)
}

type listResourcesOutput struct{ Body api.ResourcePage }

func (a *API) listResources(ctx context.Context, _ *principal, in *List) (*listResourcesOutput, error) {
	rows, err := a.config.Store.ResourceRows(ctx)
	if err != nil {
		return nil, err
	}
	resources := make([]api.Resource, len(rows))
	for i := range rows {
		resources[i] = a.resourceBody(&rows[i])
	}
	own := OwnAPI(a.config.Issuer, a.config.Store, a.config.Configuration.Management).Resource
	resources = append(resources, api.Resource{Identifier: own.Identifier, ResourceMembers: api.ResourceMembers{Name: own.Name, Scopes: own.Scopes}, Origin: api.Origin{DeclaredBy: byServer}})
	page, next, err := pageOf(in, resources, func(r *api.Resource) string { return r.Identifier })
	return &listResourcesOutput{api.ResourcePage{Resources: page, Page: api.Page{Next: next}}}, err
}

func (a *API) getResource(ctx context.Context, _ *principal, in *ResourceIdentifier) (*resourceOutput, error) {
	rows, err := a.config.Store.ResourceRows(ctx)
	if err != nil {
		return nil, err
	}
	for i := range rows {
		if rows[i].Record.Identifier == in.Identifier {
			return a.resourceOutput(&rows[i])
		}
	}
	return nil, storage.ErrNotFound
}

func (a *API) resourceBody(row *declaration.Row[record.Resource]) api.Resource {
	r := &row.Record
	return api.Resource{Identifier: r.Identifier, ResourceMembers: api.ResourceMembers{
		Name: r.Name, Scopes: r.Scopes, AccessTokenFormat: r.AccessTokenFormat, IntrospectionClients: r.IntrospectionClients,
		AccessTokenLifetime: r.AccessTokenLifetime, StatusList: r.StatusList, AccessTokenClaims: r.AccessTokenClaims,
	}, Origin: api.Origin{DeclaredBy: a.fileOf(row.Source), RetiredAt: optionalTime(row.RetiredAt)}}
}

func (a *API) resourceOutput(row *declaration.Row[record.Resource]) (*resourceOutput, error) {
	body := a.resourceBody(row)
	tag, err := a.tag("resource", body)
	return &resourceOutput{tag, body}, err
}

// resourceRecord returns the record of a resource, or an error if it is not valid.
func (a *API) resourceRecord(identifier string, m *api.ResourceMembers) (*record.Resource, error) {
	r := &record.Resource{Identifier: identifier, Name: m.Name, Scopes: m.Scopes, AccessTokenFormat: m.AccessTokenFormat,
		IntrospectionClients: m.IntrospectionClients, AccessTokenLifetime: m.AccessTokenLifetime, StatusList: m.StatusList, AccessTokenClaims: m.AccessTokenClaims}
	if oauth.SameResource(identifier, Identifier(a.config.Issuer)) {
		return nil, huma.Error409Conflict("this is the identifier of the management API")
	}
	for _, scope := range m.Scopes {
		if api.Permission(scope).Description() != "" {
			return nil, huma.Error422UnprocessableEntity(fmt.Sprintf("the scope %q belongs to the management API", scope))
		}
	}
	return r, checkDeclaration(configuration.Declarations{Resources: []record.Resource{*r}})
}

type createResourceInput struct {
	Change
	Body struct {
		Identifier string `json:"identifier" minLength:"1" maxLength:"1024"`
		api.ResourceMembers
	}
}

func (a *API) createResource(ctx context.Context, _ *principal, in *createResourceInput) (*resourceOutput, error) {
	resource, err := a.resourceRecord(in.Body.Identifier, &in.Body.ResourceMembers)
	if err != nil {
		return nil, err
	}
	// Two identifiers can mean the same resource (RFC 3986, section 6.2.3).
	rows, err := a.config.Store.ResourceRows(ctx)
	if err != nil {
		return nil, err
	}
	for i := range rows {
		if oauth.SameResource(rows[i].Record.Identifier, resource.Identifier) {
			return nil, storage.ErrExists
		}
	}
	err = a.config.Store.ChangeResource(ctx, resource.Identifier, func(row *declaration.Row[record.Resource]) (*record.Resource, error) {
		if row != nil {
			return nil, storage.ErrExists
		}
		if in.DryRun {
			return nil, errDryRun
		}
		return resource, nil
	})
	if err != nil && !errors.Is(err, errDryRun) {
		return nil, err
	}
	return a.resourceOutput(&declaration.Row[record.Resource]{Record: *resource})
}

type updateResourceInput struct {
	ResourceIdentifier
	Existing
	Body api.ResourceMembers
}

func (a *API) updateResource(ctx context.Context, _ *principal, in *updateResourceInput) (*resourceOutput, error) {
	resource, err := a.resourceRecord(in.Identifier, &in.Body)
	if err != nil {
		return nil, err
	}
	var out *resourceOutput
	err = a.changeResource(ctx, in.Identifier, in.Existing, func(row *declaration.Row[record.Resource]) (*record.Resource, error) {
		row.Record = *resource
		var err error
		out, err = a.resourceOutput(row)
		return resource, err
	})
	return out, err
}

type deleteResourceInput struct {
	ResourceIdentifier
	Existing
}

func (a *API) deleteResource(ctx context.Context, _ *principal, in *deleteResourceInput) (*struct{}, error) {
	return nil, a.changeResource(ctx, in.Identifier, in.Existing, func(*declaration.Row[record.Resource]) (*record.Resource, error) { return nil, nil })
}

// changeResource changes a resource that no file declares.
func (a *API) changeResource(ctx context.Context, identifier string, in Existing, change func(*declaration.Row[record.Resource]) (*record.Resource, error)) error {
	err := a.config.Store.ChangeResource(ctx, identifier, func(row *declaration.Row[record.Resource]) (*record.Resource, error) {
		if row == nil {
			return nil, storage.ErrNotFound
		}
		read, err := a.resourceOutput(row)
		if err != nil {
			return nil, err
		}
		if err := mustMatch(in.IfMatch, read.ETag); err != nil {
			return nil, err
		}
		if err := mustNotBeDeclared(fmt.Sprintf("the resource %q", identifier), read.Body.DeclaredBy); err != nil {
			return nil, err
		}
		after, err := change(row)
		if err == nil && in.DryRun {
			err = errDryRun
		}
		return after, err
	})
	if errors.Is(err, errDryRun) {
		return nil
	}
	return err
}
