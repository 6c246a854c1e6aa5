package manage

import (
	"cmp"
	"context"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/valetkey/valetkey/manage/api"
)

const (
	// maxBody limits the body of a request, in bytes.
	maxBody        = 256 << 10
	securityScheme = "oauth"
	// metadataPermission is the member of huma.Operation.Metadata that authorize reads.
	metadataPermission = "permission"
)

// anyRole is the permission of operations for everyone who has a permission at all.
const anyRole api.Permission = "any role"

// operation describes an operation of the API.
type operation struct {
	id, method, path, summary string
	// status is the status of a successful response; 0 is 200, or 204 without a body.
	status int
	// refuses says that the operation changes nothing, and tells where to make the change.
	refuses bool
	// maxBody limits the body, in bytes; 0 is maxBody.
	maxBody int64
}

// register adds an operation. It is the only function that does, and panics if the permission is not
// one of api.Permissions or anyRole. An operation that is not a GET must not have a permission that
// only reads.
func register[I, O any](a *API, permission api.Permission, op operation, run func(context.Context, *principal, *I) (*O, error)) {
	switch {
	case permission != anyRole && permission.Description() == "":
		panic("manage: the operation " + op.id + " has no permission")
	case op.method != http.MethodGet && !op.refuses && (permission == anyRole || permission.Reads()):
		panic("manage: the operation " + op.id + " changes something, and its permission is to read")
	}
	scopes := []string{}
	if permission != anyRole {
		scopes = append(scopes, string(permission))
	}
	area, _, _ := strings.Cut(strings.TrimPrefix(op.path, "/"), "/")
	described := huma.Operation{
		OperationID: op.id, Method: op.method, Path: op.path, Summary: op.summary, Tags: []string{area}, DefaultStatus: op.status,
		MaxBodyBytes: cmp.Or(op.maxBody, maxBody),
		Metadata:     map[string]any{metadataPermission: permission},
		Security:     []map[string][]string{{securityScheme: scopes}},
	}
	huma.Register(a.huma, described, func(ctx context.Context, in *I) (*O, error) {
		p := principalOf(ctx)
		if p == nil { // authorize was not called
			return nil, huma.Error403Forbidden("the request was not authorized")
		}
		out, err := run(ctx, p, in)
		if err != nil {
			return nil, a.problem(ctx, op.id, err)
		}
		return out, nil
	})
}
