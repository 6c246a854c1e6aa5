package manage

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/valetkey/valetkey/manage/api"
)

// Register registers an operation at /test with a method and a permission.
func (a *API) Register(method string, permission api.Permission) {
	a.prepare()
	register(a, permission, operation{id: "test", method: method, path: "/test"},
		func(context.Context, *principal, *struct{}) (*struct{}, error) { return nil, nil })
}

// RegisterWithout registers an operation at /bypass that has no permission, as nobody should.
func (a *API) RegisterWithout() {
	a.prepare()
	huma.Register(a.huma, huma.Operation{OperationID: "bypass", Method: http.MethodGet, Path: "/bypass"},
		func(context.Context, *struct{}) (*struct{}, error) { return nil, nil })
}
