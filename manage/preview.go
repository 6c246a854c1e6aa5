package manage

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/manage/api"
	"github.com/valetkey/valetkey/oauth"
)

func (a *API) registerPreview() {
	register(a, api.UsersRead, operation{id: "preview", method: http.MethodGet, path: "/preview", summary: "What a client would get for a user: each claim with the rule that put it there, or the rule that refuses"}, a.preview)
}

type previewInput struct {
	Subject  string   `query:"sub" maxLength:"255" doc:"The user; without it, the client's own token"`
	ClientID string   `query:"client_id" required:"true" minLength:"1" maxLength:"512"`
	Scope    string   `query:"scope" maxLength:"4096" doc:"Separated by spaces; without it, all of the client's scope"`
	Resource []string `query:"resource,explode" maxItems:"16"`
}

type previewOutput struct{ Body api.Preview }

func (a *API) preview(ctx context.Context, p *principal, in *previewInput) (*previewOutput, error) {
	if err := p.mustHave("the preview", []api.Permission{api.ClientsRead}); err != nil {
		return nil, err
	}
	scope, err := oauth.ParseScope(in.Scope)
	if err != nil {
		return nil, huma.Error422UnprocessableEntity("scope is not valid (RFC 6749, section 3.3)")
	}
	got, err := a.config.Engine.Preview(ctx, authserver.PreviewRequest{Subject: in.Subject, ClientID: in.ClientID, Scope: scope, Resources: in.Resource})
	if err != nil {
		return nil, err
	}
	out := &previewOutput{api.Preview{
		Refused: got.Trace.Error != "", Error: got.Trace.Error, Description: got.Trace.Description, Checks: notNil(got.Trace.Checks),
		Scope: got.Scope.String(), Audience: got.Audience, Opaque: got.Opaque, ACR: got.ACR, Hooks: got.Hooks,
	}}
	for _, list := range []struct {
		from []authserver.PreviewClaim
		to   *[]api.PreviewClaim
	}{{got.AccessToken, &out.Body.AccessToken}, {got.IDToken, &out.Body.IDToken}, {got.Userinfo, &out.Body.Userinfo}} {
		for _, claim := range list.from {
			value, err := json.Marshal(claim.Value)
			if err != nil {
				return nil, fmt.Errorf("encode the claim %q: %w", claim.Name, err)
			}
			*list.to = append(*list.to, api.PreviewClaim{Name: claim.Name, Value: value, Rule: claim.Rule})
		}
	}
	return out, nil
}
