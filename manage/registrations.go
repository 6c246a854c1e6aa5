package manage

import (
	"cmp"
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/manage/api"
	"github.com/valetkey/valetkey/storage"
)

func (a *API) registerRegistrations() {
	register(a, api.RegistrationsRead, operation{id: "list-initial-access-tokens", method: http.MethodGet, path: "/registrations", summary: "How clients may register themselves, and the valid initial access tokens"}, a.listRegistrations)
	register(a, api.RegistrationsWrite, operation{id: "create-initial-access-token", method: http.MethodPost, path: "/registrations", summary: "Create an initial access token", status: http.StatusCreated}, a.createRegistration)
	register(a, api.RegistrationsWrite, operation{id: "revoke-initial-access-token", method: http.MethodDelete, path: "/registrations/{id}", summary: "Revoke an initial access token"}, a.revokeRegistration)
}

type listRegistrationsOutput struct {
	Body api.InitialAccessTokenList
}

func (a *API) listRegistrations(ctx context.Context, _ *principal, _ *struct{}) (*listRegistrationsOutput, error) {
	tokens, err := authserver.InitialAccessTokens(ctx, a.config.Store, time.Now())
	if err != nil {
		return nil, err
	}
	list := api.InitialAccessTokenList{Mode: cmp.Or(a.config.Configuration.Registration.Mode, string(authserver.RegistrationOff)), Tokens: make([]api.InitialAccessToken, len(tokens))}
	for i, t := range tokens {
		list.Tokens[i] = api.InitialAccessToken{ID: t.ID, Note: t.Note, Uses: t.Uses, Left: t.Left, CreatedAt: t.CreatedAt, ExpiresAt: t.ExpiresAt}
	}
	return &listRegistrationsOutput{list}, nil
}

type createRegistrationInput struct {
	Change
	Body api.NewInitialAccessToken
}

type createRegistrationOutput struct {
	Body api.CreatedInitialAccessToken
}

func (a *API) createRegistration(ctx context.Context, _ *principal, in *createRegistrationInput) (*createRegistrationOutput, error) {
	now := time.Now()
	lifetime, uses := cmp.Or(time.Duration(in.Body.ExpiresIn), 24*time.Hour), cmp.Or(in.Body.Uses, 1)
	if lifetime < time.Minute || lifetime > 366*24*time.Hour {
		return nil, huma.Error422UnprocessableEntity("expires_in must be between 1m and 8784h")
	}
	if uses > authserver.MaxInitialAccessTokenUses {
		return nil, huma.Error422UnprocessableEntity("uses is too large")
	}
	out := &createRegistrationOutput{api.CreatedInitialAccessToken{ExpiresAt: now.Add(lifetime).UTC().Truncate(time.Second)}}
	if in.DryRun {
		return out, nil
	}
	var err error
	out.Body.Token, err = authserver.NewInitialAccessToken(ctx, a.config.Store, now, authserver.InitialAccessToken{Note: in.Body.Note, Uses: uses, ExpiresAt: out.Body.ExpiresAt})
	return out, err
}

type revokeRegistrationInput struct {
	Change
	ID string `path:"id" maxLength:"64"`
}

func (a *API) revokeRegistration(ctx context.Context, _ *principal, in *revokeRegistrationInput) (*struct{}, error) {
	if !in.DryRun {
		return nil, authserver.RevokeInitialAccessToken(ctx, a.config.Store, time.Now(), in.ID)
	}
	tokens, err := authserver.InitialAccessTokens(ctx, a.config.Store, time.Now())
	if err != nil {
		return nil, err
	}
	for _, t := range tokens {
		if t.ID == in.ID {
			return nil, nil
		}
	}
	return nil, storage.ErrNotFound
}
