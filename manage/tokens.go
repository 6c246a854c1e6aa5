package manage

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/valetkey/valetkey/audit"
	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/manage/api"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

// maxTokens limits a list of tokens.
const maxTokens = 1000

func (a *API) registerTokens() {
	register(a, api.SessionsRead, operation{id: "list-user-tokens", method: http.MethodGet, path: "/users/{sub}/tokens", summary: "List the tokens of a user, without their secrets"}, a.listUserTokens)
	register(a, api.SessionsRead, operation{id: "list-client-tokens", method: http.MethodGet, path: "/clients/{client_id}/tokens", summary: "List the stored tokens that a client got for itself"}, a.listClientTokens)
	register(a, api.SessionsRead, operation{id: "get-token", method: http.MethodGet, path: "/tokens/{reference}", summary: "Get a token by its reference"}, a.getToken)
	register(a, api.SessionsWrite, operation{id: "end-token", method: http.MethodDelete, path: "/tokens/{reference}", summary: "End a token and everything that was issued with it"}, a.endToken)
}

type listTokensOutput struct{ Body api.TokenList }

func (a *API) listUserTokens(ctx context.Context, _ *principal, in *UserID) (*listTokensOutput, error) {
	if _, err := a.config.Store.User(ctx, in.ID); err != nil {
		return nil, err
	}
	grants, err := a.config.Store.GrantsOf(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	ids := make([]string, len(grants))
	for i := range grants {
		ids[i] = grants[i].ID
	}
	return a.tokensOf(ctx, ids...)
}

func (a *API) listClientTokens(ctx context.Context, _ *principal, in *ClientID) (*listTokensOutput, error) {
	if _, err := a.client(ctx, in.ID); err != nil {
		return nil, err
	}
	return a.tokensOf(ctx, record.ClientGrant(in.ID))
}

func (a *API) tokensOf(ctx context.Context, grants ...string) (*listTokensOutput, error) {
	list := api.TokenList{Tokens: []api.Token{}}
	for _, grant := range grants {
		tickets, err := a.config.Store.TicketsOfGrant(ctx, time.Now(), grant, maxTokens, authserver.TokenKinds()...)
		if err != nil {
			return nil, err
		}
		for _, ticket := range tickets {
			if !ticket.Spent.IsZero() || len(list.Tokens) == maxTokens {
				continue
			}
			token, err := tokenBody(ticket)
			if err != nil {
				return nil, err
			}
			list.Tokens = append(list.Tokens, *token)
		}
	}
	return &listTokensOutput{list}, nil
}

func tokenBody(ticket storage.Ticket) (*api.Token, error) {
	t, err := authserver.ReadIssuedToken(ticket)
	if err != nil {
		return nil, err
	}
	body := &api.Token{Reference: t.Reference, Kind: api.TokenAccess, ClientID: t.ClientID, Subject: t.Subject, Scope: t.Scope.String(), Resources: t.Resources,
		IssuedAt: t.Issued.UTC(), ExpiresAt: ticket.Expires.UTC(), Bound: t.Bound}
	if ticket.Kind == ticketkind.RefreshToken {
		body.Kind = api.TokenRefresh
	}
	return body, nil
}

// TokenReference is the path parameter of a token.
type TokenReference struct {
	Reference string `path:"reference" maxLength:"255"`
}

type tokenOutput struct{ Body api.Token }

func (a *API) token(ctx context.Context, reference string) (storage.Ticket, error) {
	key, ok := authserver.TokenKey(reference)
	if !ok {
		return storage.Ticket{}, storage.ErrNotFound
	}
	ticket, err := a.config.Store.Get(ctx, time.Now(), key)
	if err == nil && !ticket.Spent.IsZero() {
		err = storage.ErrNotFound
	}
	return ticket, err
}

func (a *API) getToken(ctx context.Context, _ *principal, in *TokenReference) (*tokenOutput, error) {
	ticket, err := a.token(ctx, in.Reference)
	if err != nil {
		return nil, err
	}
	body, err := tokenBody(ticket)
	if err != nil {
		return nil, err
	}
	return &tokenOutput{*body}, nil
}

type endTokenInput struct {
	TokenReference
	Change
}

// endToken ends the family of a token: everything that began with the same authorization, such as the
// refresh token and the access tokens of one sign-in at a client.
func (a *API) endToken(ctx context.Context, _ *principal, in *endTokenInput) (*struct{}, error) {
	ticket, err := a.token(ctx, in.Reference)
	if err != nil || in.DryRun {
		return nil, err
	}
	token, err := authserver.ReadIssuedToken(ticket)
	if err != nil {
		return nil, err
	}
	ended := audit.WithRecord(ctx, audit.Record{
		Event: "token.revoked", Subject: token.Subject, ClientID: token.ClientID, Object: audit.Object{Kind: audit.ObjectToken, ID: token.Reference},
	})
	if ticket.Family != "" {
		// Its record is written with the end of the family, which has the token as well.
		if err := a.config.Store.DeleteFamily(ended, storage.RootFamily(ticket.Family)); err != nil {
			return nil, err
		}
	} else {
		ctx = ended
	}
	err = a.config.Store.Delete(ctx, ticket.Key)
	if errors.Is(err, storage.ErrNotFound) {
		err = nil
	}
	return nil, err
}
