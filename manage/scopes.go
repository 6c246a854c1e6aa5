package manage

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/manage/api"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/declaration"
	"github.com/valetkey/valetkey/storage/record"
)

// byServer is the DeclaredBy of what the server itself defines.
const byServer = "server"

// ScopeName is the path parameter of a scope.
type ScopeName struct {
	Name string `path:"name" maxLength:"255"`
}

type scopeOutput struct {
	ETag string `header:"ETag"`
	Body api.Scope
}

func (a *API) registerScopes() {
	register(a, api.ScopesRead, operation{id: "list-scopes", method: http.MethodGet, path: "/scopes", summary: "List scopes"}, a.listScopes)
	register(a, api.ScopesRead, operation{id: "get-scope", method: http.MethodGet, path: "/scopes/{name}", summary: "Get a scope"}, a.getScope)
	register(a, api.ScopesWrite, operation{id: "create-scope", method: http.MethodPost, path: "/scopes", summary: "Create a scope", status: http.StatusCreated}, a.createScope)
	register(a, api.ScopesWrite, operation{id: "update-scope", method: http.MethodPut, path: "/scopes/{name}", summary: "Replace the members of a scope"}, a.updateScope)
	register(a, api.ScopesWrite, operation{id: "delete-scope", method: http.MethodDelete, path: "/scopes/{name}", summary: "Delete a scope"}, a.deleteScope)
}

type listScopesOutput struct{ Body api.ScopePage }

func (a *API) listScopes(ctx context.Context, _ *principal, in *List) (*listScopesOutput, error) {
	rows, err := a.config.Store.ScopeRows(ctx)
	if err != nil {
		return nil, err
	}
	scopes := make([]api.Scope, len(rows))
	for i := range rows {
		scopes[i] = a.scopeBody(&rows[i])
	}
	for _, p := range api.Permissions() {
		scopes = append(scopes, api.Scope{Name: string(p), ScopeMembers: api.ScopeMembers{Description: p.Description(), Optional: true}, Origin: api.Origin{DeclaredBy: byServer}})
	}
	scopes = append(scopes, api.Scope{Name: api.ScopeAll, ScopeMembers: api.ScopeMembers{Description: api.ScopeAllDescription, Optional: true}, Origin: api.Origin{DeclaredBy: byServer}})
	page, next, err := pageOf(in, scopes, func(s *api.Scope) string { return s.Name })
	return &listScopesOutput{api.ScopePage{Scopes: page, Page: api.Page{Next: next}}}, err
}

func (a *API) getScope(ctx context.Context, _ *principal, in *ScopeName) (*scopeOutput, error) {
	rows, err := a.config.Store.ScopeRows(ctx)
	if err != nil {
		return nil, err
	}
	for i := range rows {
		if rows[i].Record.Name == in.Name {
			return a.scopeOutput(&rows[i])
		}
	}
	return nil, storage.ErrNotFound
}

func (a *API) scopeBody(row *declaration.Row[record.Scope]) api.Scope {
	s := &row.Record
	return api.Scope{Name: s.Name, ScopeMembers: api.ScopeMembers{Description: s.Description, Claims: s.Claims, Optional: s.Optional},
		Origin: api.Origin{DeclaredBy: a.fileOf(row.Source), RetiredAt: optionalTime(row.RetiredAt)}}
}

func (a *API) scopeOutput(row *declaration.Row[record.Scope]) (*scopeOutput, error) {
	body := a.scopeBody(row)
	tag, err := a.tag("scope", body)
	return &scopeOutput{tag, body}, err
}

func scopeRecord(name string, m *api.ScopeMembers) record.Scope {
	return record.Scope{Name: name, Description: m.Description, Claims: m.Claims, Optional: m.Optional}
}

// checkDeclaration returns an error if a file could not declare the same.
func checkDeclaration(d configuration.Declarations) error {
	err := d.Validate()
	if err == nil {
		return nil
	}
	var details []error
	for line := range strings.Lines(err.Error()) {
		details = append(details, &huma.ErrorDetail{Location: "body", Message: strings.TrimSpace(line)})
	}
	return huma.Error422UnprocessableEntity("the record is not valid", details...)
}

type createScopeInput struct {
	Change
	Body struct {
		Name string `json:"name" minLength:"1" maxLength:"255"`
		api.ScopeMembers
	}
}

func (a *API) createScope(ctx context.Context, _ *principal, in *createScopeInput) (*scopeOutput, error) {
	scope := scopeRecord(in.Body.Name, &in.Body.ScopeMembers)
	if err := checkDeclaration(configuration.Declarations{Scopes: []record.Scope{scope}}); err != nil {
		return nil, err
	}
	err := a.config.Store.ChangeScope(ctx, scope.Name, func(row *declaration.Row[record.Scope]) (*record.Scope, error) {
		if row != nil {
			return nil, storage.ErrExists
		}
		if in.DryRun {
			return nil, errDryRun
		}
		return &scope, nil
	})
	if err != nil && !errors.Is(err, errDryRun) {
		return nil, err
	}
	return a.scopeOutput(&declaration.Row[record.Scope]{Record: scope})
}

type updateScopeInput struct {
	ScopeName
	Existing
	Body api.ScopeMembers
}

func (a *API) updateScope(ctx context.Context, _ *principal, in *updateScopeInput) (*scopeOutput, error) {
	scope := scopeRecord(in.Name, &in.Body)
	if err := checkDeclaration(configuration.Declarations{Scopes: []record.Scope{scope}}); err != nil {
		return nil, err
	}
	var out *scopeOutput
	err := a.changeScope(ctx, in.Name, in.Existing, func(row *declaration.Row[record.Scope]) (*record.Scope, error) {
		row.Record = scope
		var err error
		out, err = a.scopeOutput(row)
		return &scope, err
	})
	return out, err
}

type deleteScopeInput struct {
	ScopeName
	Existing
}

func (a *API) deleteScope(ctx context.Context, _ *principal, in *deleteScopeInput) (*struct{}, error) {
	return nil, a.changeScope(ctx, in.Name, in.Existing, func(*declaration.Row[record.Scope]) (*record.Scope, error) { return nil, nil })
}

// changeScope changes a scope that no file declares.
func (a *API) changeScope(ctx context.Context, name string, in Existing, change func(*declaration.Row[record.Scope]) (*record.Scope, error)) error {
	err := a.config.Store.ChangeScope(ctx, name, func(row *declaration.Row[record.Scope]) (*record.Scope, error) {
		if row == nil {
			return nil, storage.ErrNotFound
		}
		read, err := a.scopeOutput(row)
		if err != nil {
			return nil, err
		}
		if err := mustMatch(in.IfMatch, read.ETag); err != nil {
			return nil, err
		}
		if err := mustNotBeDeclared(fmt.Sprintf("the scope %q", name), read.Body.DeclaredBy); err != nil {
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
