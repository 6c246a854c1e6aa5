package client

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Several processes of an application share its sessions, but a refresh token can be used only
// once. Therefore one process claims the renewal in the store, and the others wait for its
// result.
const (
	// renewalClaim is how long a claim is valid, in case its process has died. It is longer
	// than one request to the provider, and shorter than the time in which a server may still
	// accept a used refresh token again.
	renewalClaim = requestTimeout + 5*time.Second
	// renewalPoll is how often waiting processes check the store.
	renewalPoll = 200 * time.Millisecond
	// renewalTimeout is the timeout of a renewal, including all waiting.
	renewalTimeout = 3 * renewalClaim
	// maxConflicts limits how often a change is tried again after a conflict.
	maxConflicts = 20
)

// sessionSource returns the Source for the tokens of a stored session.
func (p *RelyingParty) sessionSource(id string, tokens *Tokens) *Source {
	source := p.client.Source(tokens, func(ctx context.Context, next *Tokens) error { return p.storeTokens(ctx, id, next) })
	source.renew = func(ctx context.Context, held *Tokens) (*Tokens, error) { return p.renewTokens(ctx, id, held) }
	return source
}

// renewTokens returns tokens of a session that are newer than held: those that another process
// has stored meanwhile, or new ones from the provider.
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
		// Another process may have used the refresh token: one that started before the claim, or
		// one that assumed this process was dead.
		if s, readErr := p.sessions.Get(ctx, id); readErr == nil && s != nil && s.Tokens != nil && !s.Tokens.same(stored) {
			return s.Tokens, nil
		}
	}
	// Release the claim, so that the others need not wait until it expires.
	_, releaseErr := p.updateSession(ctx, id, func(s *Session) bool {
		mine := s.Tokens.same(stored) && !s.Renewing.IsZero()
		s.Renewing = time.Time{}
		return mine
	})
	return nil, errors.Join(err, releaseErr)
}

// claimRenewal returns valid tokens, or claims their renewal. It waits while another process
// has claimed it.
func (p *RelyingParty) claimRenewal(ctx context.Context, id string, held *Tokens) (tokens *Tokens, claimed bool, err error) {
	waitUntil := time.Now().Add(renewalClaim) // by the local clock; those of other machines may differ
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
	return nil, false, errors.New("client: claim the renewal: too many concurrent changes of the session")
}

// storeTokens stores renewed tokens, unless the store has newer ones.
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

// updateSession changes a stored session, and reports whether it exists. change reports
// whether it has changed anything; it is called again after a conflict.
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
	return true, errors.New("client: store the session: too many concurrent changes")
}

// same reports whether two values are the tokens of the same grant or refresh.
func (t *Tokens) same(other *Tokens) bool {
	return t != nil && other != nil && t.AccessToken == other.AccessToken && t.RefreshToken == other.RefreshToken
}
