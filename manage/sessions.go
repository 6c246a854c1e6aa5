package manage

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/manage/api"
	"github.com/valetkey/valetkey/storage"
)

func (a *API) registerSessions() {
	register(a, api.SessionsRead, operation{id: "list-user-sessions", method: http.MethodGet, path: "/users/{sub}/sessions", summary: "List where a user is signed in"}, a.listSessions)
	register(a, api.SessionsWrite, operation{id: "end-user-session", method: http.MethodDelete, path: "/users/{sub}/sessions/{id}", summary: "End a session of a user and what was issued in it"}, a.endSession)
	register(a, api.SessionsWrite, operation{id: "end-user", method: http.MethodPost, path: "/users/{sub}/end", summary: "End every session, code and token of a user; what they have allowed clients stays"}, a.endUser)
}

type listSessionsOutput struct{ Body api.SessionList }

func (a *API) listSessions(ctx context.Context, _ *principal, in *UserID) (*listSessionsOutput, error) {
	sessions, uses, err := a.sessionsOf(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	list := api.SessionList{Sessions: make([]api.Session, len(sessions))}
	for i := range sessions {
		s := &sessions[i]
		list.Sessions[i] = api.Session{ID: s.ID, AuthTime: s.AuthTime.UTC(), AMR: notNil(s.AMR), ACR: s.ACR, UserAgent: s.UserAgent, ExpiresAt: s.Expires.UTC()}
		if s.Remote.IsValid() {
			list.Sessions[i].Address = s.Remote.String()
		}
		if use, ok := uses[s.ID]; ok {
			list.Sessions[i].LastUsedAt = optionalTime(use.At)
		}
	}
	return &listSessionsOutput{list}, nil
}

func (a *API) sessionsOf(ctx context.Context, sub string) ([]identity.Session, map[string]storage.Use, error) {
	if _, err := a.config.Store.User(ctx, sub); err != nil {
		return nil, nil, err
	}
	now := time.Now()
	sessions, err := a.config.Accounts.Sessions(ctx, now, sub)
	if err != nil {
		return nil, nil, err
	}
	uses, err := a.config.Accounts.Uses(ctx, now, sub)
	return sessions, uses, err
}

type endSessionInput struct {
	UserID
	Change
	Session string `path:"id" maxLength:"255"`
}

func (a *API) endSession(ctx context.Context, _ *principal, in *endSessionInput) (*struct{}, error) {
	sessions, _, err := a.sessionsOf(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(sessions, func(s identity.Session) bool { return s.ID == in.Session }) {
		return nil, storage.ErrNotFound
	}
	if in.DryRun {
		return nil, nil
	}
	return nil, a.config.Accounts.EndSession(ctx, time.Now(), in.Session)
}

type endUserInput struct {
	UserID
	Change
}

func (a *API) endUser(ctx context.Context, _ *principal, in *endUserInput) (*struct{}, error) {
	err := a.config.Store.UpdateUser(ctx, in.ID, func(u *identity.User) error {
		u.End(time.Now(), nil)
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
