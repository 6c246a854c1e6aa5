package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

type sessionContext struct{}

// SessionFrom returns the session of a request that passed Require or Load, nil if no user is
// signed in.
func SessionFrom(ctx context.Context) *Session {
	s, _ := ctx.Value(sessionContext{}).(*Session)
	return s
}

// Load returns a handler that adds the session, if there is one, to the context of each
// request.
func (p *RelyingParty) Load(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Vary", "Cookie")
		s, err := p.session(r)
		if err != nil {
			p.writeError(w, r, http.StatusBadGateway, err)
			return
		}
		if s != nil {
			r = r.WithContext(context.WithValue(r.Context(), sessionContext{}, s))
		}
		next.ServeHTTP(w, r)
	})
}

// Require returns a handler that calls next only for signed-in users. Other visitors of a page
// are redirected to sign in and return afterwards; the response to other requests is 401.
func (p *RelyingParty) Require(next http.Handler) http.Handler {
	return p.Load(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch mode := r.Header.Get("Sec-Fetch-Mode"); {
		case SessionFrom(r.Context()) != nil:
			next.ServeHTTP(w, r)
		case r.Method == http.MethodGet && (mode == "" || mode == "navigate"):
			seeOther(w, p.SignInPath(r.URL.RequestURI()))
		default:
			http.Error(w, "You are not signed in.", http.StatusUnauthorized)
		}
	}))
}

// SignInPath returns the path that starts a sign-in and then returns to returnTo, a path of
// the application.
func (p *RelyingParty) SignInPath(returnTo string) string {
	return p.base + "sign-in?" + url.Values{"return_to": {returnTo}}.Encode()
}

// session returns the session of a request, nil if there is none.
func (p *RelyingParty) session(r *http.Request) (*Session, error) {
	id := p.sessionID(r)
	if id == "" {
		return nil, nil
	}
	s, err := p.sessions.Get(r.Context(), id)
	if err != nil {
		return nil, fmt.Errorf("client: read the session: %w", err)
	}
	if s == nil || s.Tokens == nil || s.Issuer != p.client.metadata.Issuer || !time.Now().Before(s.Expires) {
		return nil, nil
	}
	if s.UserInfo != nil && s.UserInfo.Subject == "" { // its subject is not in sub
		s.UserInfo.Subject = s.Subject
	}
	s.source = p.sources.of(s, func() *Source { return p.sessionSource(s.ID, s.Tokens) })
	return s, nil
}

// sessionID returns the session ID for a request's cookie, "" without a cookie. The session
// may not exist.
func (p *RelyingParty) sessionID(r *http.Request) string {
	cookie, err := r.Cookie(p.cookieName("session"))
	if err != nil {
		return ""
	}
	return sessionKey(cookie.Value)
}

// endSessions deletes the sessions with these IDs. It ignores empty and unknown IDs.
func (p *RelyingParty) endSessions(ctx context.Context, ids ...string) error {
	for _, id := range ids {
		if id == "" {
			continue
		}
		p.sources.drop(id)
		if err := p.sessions.Delete(ctx, id); err != nil {
			return fmt.Errorf("client: end the session: %w", err)
		}
	}
	return nil
}

// startSession starts a session with a new cookie and ends the previous one. The new cookie
// prevents session fixation.
func (p *RelyingParty) startSession(w http.ResponseWriter, r *http.Request, tokens *Tokens, state, before string) error {
	ctx := r.Context()
	id := rand.Text()
	now := time.Now().Round(0)
	s := &Session{
		ID: sessionKey(id), Issuer: p.client.metadata.Issuer, SessionState: state, Tokens: tokens,
		Started: now, Expires: now.Add(p.lifetime),
	}
	if tokens.Identity != nil {
		s.Subject, s.SessionID = tokens.Identity.Subject, tokens.Identity.SessionID
	}
	if p.userInfo {
		info, err := p.client.UserInfo(ctx, tokens)
		if err != nil {
			return fmt.Errorf("fetch UserInfo: %w", err)
		}
		s.UserInfo, s.Subject = info, info.Subject
	}
	if s.Subject == "" {
		return fmt.Errorf("%w: there is none; a RelyingParty requires the scope openid or Config.UserInfoSubject", ErrIDToken)
	}
	if err := p.callOnSignIn(r, s); err != nil {
		return err
	}
	if err := p.endSessions(ctx, before, p.sessionID(r)); err != nil {
		return err
	}
	if err := p.sessions.Put(ctx, s); err != nil {
		return fmt.Errorf("client: store the session: %w", err)
	}
	p.setCookie(w, p.cookieName("session"), id, 0, false)
	return nil
}

// callOnSignIn calls OnSignIn for a session before it starts.
func (p *RelyingParty) callOnSignIn(r *http.Request, s *Session) error {
	if p.onSignIn == nil {
		return nil
	}
	_, err := caught(func() (struct{}, error) { return struct{}{}, p.onSignIn(r, s) })
	switch {
	case errors.Is(err, ErrRefused):
		return err
	case err != nil:
		return &refusal{http.StatusInternalServerError, fmt.Errorf("client: OnSignIn: %w", err)}
	}
	return nil
}
