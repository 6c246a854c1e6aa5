package client

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Several processes of one application share their sessions, and a refresh token can be used
// once. So one process claims the renewal in the store, and the others wait for its result.
const (
	// renewalClaim is how long a process has a renewal to itself. A process that died is
	// waited for no longer. It is longer than one request to the provider, and shorter than
	// the time in which a server may still forgive a refresh token that comes again.
	renewalClaim = requestTimeout + 5*time.Second
	// renewalPoll is how often the others look.
	renewalPoll = 200 * time.Millisecond
	// renewalTimeout bounds a renewal with all that it waits for.
	renewalTimeout = 3 * renewalClaim
	// maxConflicts bounds how often a change is tried again because of others.
	maxConflicts = 20
)

// sessionSource returns the source of a stored session's tokens.
func (p *RelyingParty) sessionSource(id string, tokens *Tokens) *Source {
	source := p.client.Source(tokens, func(ctx context.Context, next *Tokens) error { return p.storeTokens(ctx, id, next) })
	source.renew = func(ctx context.Context, held *Tokens) (*Tokens, error) { return p.renewTokens(ctx, id, held) }
	return source
}

// renewTokens returns newer tokens of a session than held: those that another process has
// stored meanwhile, or else those that the provider gives for the refresh token.
func (p *RelyingParty) renewTokens(ctx context.Context, id string, held *Tokens) (*Tokens, error) {
	ctx, cancel := context.WithTimeout(ctx, renewalTimeout)
	defer cancel()
	stored, claimed, err := p.claimRenewal(ctx, id, held)
	if err != nil || !claimed {
		return stored, err
	}
	next, err := p.client.Refresh(ctx, stored)
	if err == nil {
		return next, nil
	}
	if errors.Is(err, ErrSignInAgain) {
		// Another process may have used the refresh token: one that began before the claim, or
		// that took this one for dead.
		if s, readErr := p.sessions.Get(ctx, id); readErr == nil && s != nil && s.Tokens != nil && !s.Tokens.same(stored) {
			return s.Tokens, nil
		}
	}
	// The others need not wait. If this fails they do, until the claim ends.
	_, releaseErr := p.updateSession(ctx, id, func(s *Session) bool {
		mine := s.Tokens.same(stored) && !s.Renewing.IsZero()
		s.Renewing = time.Time{}
		return mine
	})
	return nil, errors.Join(err, releaseErr)
}

// claimRenewal returns tokens that are good, or claims their renewal. It waits for another
// process that has claimed it.
func (p *RelyingParty) claimRenewal(ctx context.Context, id string, held *Tokens) (tokens *Tokens, claimed bool, err error) {
	waitUntil := time.Now().Add(renewalClaim) // by this clock; those of others may differ
	for conflicts := 0; conflicts < maxConflicts; {
		s, err := p.sessions.Get(ctx, id)
		switch {
		case err != nil:
			return nil, false, fmt.Errorf("client: read the session: %w", err)
		case s == nil || s.Tokens == nil:
			return nil, false, fmt.Errorf("%w: the session has ended", ErrSignInAgain)
		case !s.Tokens.same(held) && s.Tokens.freshAt(time.Now()):
			return s.Tokens, false, nil
		case s.Tokens.RefreshToken == "":
			return nil, false, fmt.Errorf("%w: there is no refresh token", ErrSignInAgain)
		}
		if now := time.Now(); now.Before(s.Renewing) && now.Before(waitUntil) {
			select {
			case <-time.After(renewalPoll):
				continue
			case <-ctx.Done():
				return nil, false, fmt.Errorf("client: wait for another process to renew the tokens: %w", context.Cause(ctx))
			}
		}
		s.Renewing = time.Now().Add(renewalClaim).Round(0)
		if claimed, err = p.sessions.Replace(ctx, s); err != nil {
			return nil, false, fmt.Errorf("client: claim the renewal: %w", err)
		}
		if claimed {
			return s.Tokens, true, nil
		}
		conflicts++
	}
	return nil, false, errors.New("client: claim the renewal: others changed the session all the time")
}

// storeTokens keeps renewed tokens, unless the store has newer ones.
func (p *RelyingParty) storeTokens(ctx context.Context, id string, tokens *Tokens) error {
	found, err := p.updateSession(ctx, id, func(s *Session) bool {
		if s.Tokens.same(tokens) || s.Tokens != nil && s.Tokens.Issued.After(tokens.Issued) {
			return false
		}
		s.Tokens, s.Renewing = tokens, time.Time{}
		return true
	})
	if err == nil && !found {
		err = fmt.Errorf("%w: the session has ended", ErrSignInAgain)
	}
	return err
}

// updateSession changes a stored session, and reports whether it is there. change reports
// whether there is something to store; it is called again if somebody else was faster.
func (p *RelyingParty) updateSession(ctx context.Context, id string, change func(*Session) bool) (found bool, err error) {
	for range maxConflicts {
		s, err := p.sessions.Get(ctx, id)
		if err != nil {
			return false, fmt.Errorf("client: read the session: %w", err)
		}
		if s == nil {
			return false, nil
		}
		if !change(s) {
			return true, nil
		}
		replaced, err := p.sessions.Replace(ctx, s)
		if err != nil {
			return true, fmt.Errorf("client: store the session: %w", err)
		}
		if replaced {
			return true, nil
		}
	}
	return true, errors.New("client: store the session: others changed it all the time")
}

// same reports whether two values are the outcome of one grant or refresh.
func (t *Tokens) same(other *Tokens) bool {
	return t != nil && other != nil && t.AccessToken == other.AccessToken && t.RefreshToken == other.RefreshToken
}
