package client

import (
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// Session is the session of a signed-in user in one browser. It contains tokens, so protect
// stored sessions. Printing it shows nothing.
type Session struct {
	// ID is the key in the store. It differs from the value of the cookie, so that access to
	// the store is not enough to take over a session.
	ID      string `json:"id"`
	Issuer  string `json:"iss"`
	Subject string `json:"sub"`
	// SessionID is the sid of the sign-in at the provider, with which the provider can end it;
	// empty without sid.
	SessionID string `json:"sid,omitempty"`
	// SessionState is the session_state that the provider's page compares to find out whether
	// that sign-in has changed (OpenID Connect Session Management, section 2); may be empty.
	SessionState string `json:"session_state,omitempty"`
	// Tokens are the tokens of the sign-in or of the last refresh. To call an API, use Source,
	// which renews them.
	Tokens *Tokens `json:"tokens"`
	// UserInfo is the UserInfo that was fetched at the sign-in, nil if it was not.
	UserInfo *UserInfo `json:"userinfo,omitempty"`
	// Data is for RelyingPartyConfig.OnSignIn and the application.
	Data    map[string]string `json:"data,omitempty"`
	Started time.Time         `json:"started"`
	Expires time.Time         `json:"expires"`
	// Version is how often the session was replaced. Only the store changes it.
	Version int64 `json:"version,omitempty"`
	// Renewing is the end of a process's claim to renew the tokens; zero without a claim.
	Renewing time.Time `json:"renewing,omitzero"`

	source *Source
}

// Format keeps tokens out of logs and error messages, for every verb.
func (Session) Format(s fmt.State, _ rune) { io.WriteString(s, "[session]") }

// LogValue keeps tokens out of structured logs.
func (Session) LogValue() slog.Value { return slog.StringValue("[session]") }

// Source returns the source of the session's tokens, which renews them. All requests of one
// session share it, so that there is only one refresh at a time. After the session has ended,
// tokens are not renewed, and it fails with ErrSignInAgain.
func (s *Session) Source() *Source { return s.source }

// Decode decodes the user's claims into a struct or map: those of UserInfo if it was fetched,
// else those of the ID token.
func (s *Session) Decode(into any) error {
	switch {
	case s.UserInfo != nil:
		return s.UserInfo.Decode(into)
	case s.Tokens == nil || s.Tokens.Identity == nil:
		return errors.New("client: the session has no claims: it has neither an ID token nor UserInfo")
	}
	return s.Tokens.Identity.Decode(into)
}

// SessionStore stores the sessions of a RelyingParty. A web application in one process can use
// MemorySessions. An application that runs in several processes, or whose users stay signed in
// after a restart, uses package sqlsession or its own store, in which it can keep a Session as
// JSON. Package sessiontest tests implementations. Methods are called concurrently.
type SessionStore interface {
	// Put stores a new session until it expires.
	Put(ctx context.Context, s *Session) error
	// Get returns the session with an ID and its current Version, nil if there is none or it
	// has expired. The caller may change the returned session.
	Get(ctx context.Context, id string) (*Session, error)
	// Replace replaces the session with the ID of s, if it still exists and has the Version of
	// s, and reports whether it did. The Version of the stored session is one higher. If the
	// session has ended, or was replaced since s was read, Replace does nothing: an ended
	// session must not come back, and no change may be lost.
	Replace(ctx context.Context, s *Session) (bool, error)
	// Delete deletes the session with an ID, if it exists.
	Delete(ctx context.Context, id string) error
	// DeleteSignedOut deletes all sessions of an issuer with the given sub and sid. One of
	// them can be empty, which matches any value.
	DeleteSignedOut(ctx context.Context, issuer, subject, sessionID string) error
}

// sessionKey returns the ID of the session for a cookie.
func sessionKey(cookie string) string {
	sum := sha256.Sum256([]byte(cookie))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// MemorySessions is a SessionStore in memory. When it is full, the oldest session ends.
type MemorySessions struct {
	most int

	mu    sync.Mutex
	order *list.List               // of Session, oldest first
	byID  map[string]*list.Element // elements of order
	// bySID finds sessions by issuer and sid quickly: anybody can send front-channel logouts.
	bySID map[string][]*list.Element
}

// NewMemorySessions returns an empty store for at most size sessions. A session needs a few
// kilobytes, mostly for its tokens.
func NewMemorySessions(size int) *MemorySessions {
	return &MemorySessions{most: size, order: list.New(), byID: map[string]*list.Element{}, bySID: map[string][]*list.Element{}}
}

// Put implements SessionStore.
func (m *MemorySessions) Put(_ context.Context, s *Session) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	for e := m.order.Front(); e != nil && (len(m.byID) >= m.most || !now.Before(e.Value.(Session).Expires)); e = m.order.Front() {
		m.remove(e)
	}
	if e := m.byID[s.ID]; e != nil {
		m.remove(e)
	}
	e := m.order.PushBack(*s)
	m.byID[s.ID] = e
	m.index(e)
	return nil
}

// Get implements SessionStore.
func (m *MemorySessions) Get(_ context.Context, id string) (*Session, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.byID[id]
	if e == nil {
		return nil, nil
	}
	s := e.Value.(Session)
	if !time.Now().Before(s.Expires) {
		m.remove(e)
		return nil, nil
	}
	return &s, nil
}

// Replace implements SessionStore.
func (m *MemorySessions) Replace(_ context.Context, s *Session) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.byID[s.ID]
	if e == nil || e.Value.(Session).Version != s.Version || !time.Now().Before(e.Value.(Session).Expires) {
		return false, nil
	}
	next := *s
	next.Version++
	m.unindex(e)
	e.Value = next
	m.index(e)
	return true, nil
}

// Delete implements SessionStore.
func (m *MemorySessions) Delete(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.byID[id]; e != nil {
		m.remove(e)
	}
	return nil
}

// DeleteSignedOut implements SessionStore.
func (m *MemorySessions) DeleteSignedOut(_ context.Context, issuer, subject, sessionID string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	named := slices.Clone(m.bySID[sidKey(issuer, sessionID)])
	if sessionID == "" {
		for e := m.order.Front(); e != nil; e = e.Next() {
			named = append(named, e)
		}
	}
	for _, e := range named {
		if s := e.Value.(Session); s.Issuer == issuer && (subject == "" || s.Subject == subject) {
			m.remove(e)
		}
	}
	return nil
}

func sidKey(issuer, sessionID string) string { return issuer + "\x00" + sessionID }

func (m *MemorySessions) index(e *list.Element) {
	if s := e.Value.(Session); s.SessionID != "" {
		key := sidKey(s.Issuer, s.SessionID)
		m.bySID[key] = append(m.bySID[key], e)
	}
}

func (m *MemorySessions) unindex(e *list.Element) {
	s := e.Value.(Session)
	key := sidKey(s.Issuer, s.SessionID)
	if m.bySID[key] = slices.DeleteFunc(m.bySID[key], func(other *list.Element) bool { return other == e }); len(m.bySID[key]) == 0 {
		delete(m.bySID, key)
	}
}

func (m *MemorySessions) remove(e *list.Element) {
	m.unindex(e)
	delete(m.byID, e.Value.(Session).ID)
	m.order.Remove(e)
}

// sources caches the Source of each active session, so that all of its requests share one.
type sources struct {
	mu   sync.Mutex
	byID map[string]*Source
}

// maxSources limits the cache. A dropped Source is created again when its session is used.
const maxSources = 10_000

// of returns the Source of a stored session. If another process has renewed the session's
// tokens, the Source gets those.
func (h *sources) of(s *Session, fresh func() *Source) *Source {
	h.mu.Lock()
	defer h.mu.Unlock()
	if held := h.byID[s.ID]; held != nil && !held.outdated(s.Tokens) {
		return held
	}
	for id, held := range h.byID {
		if len(h.byID) < maxSources {
			break
		}
		// Its tokens are being renewed or are not stored yet, so they are nowhere else.
		if !held.busy() {
			delete(h.byID, id)
		}
	}
	if h.byID == nil {
		h.byID = map[string]*Source{}
	}
	h.byID[s.ID] = fresh()
	return h.byID[s.ID]
}

func (h *sources) drop(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.byID, id)
}

// busy reports whether tokens are being renewed or are not stored yet.
func (s *Source) busy() bool {
	if s.flight.running() {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unsaved
}

// outdated reports whether the stored tokens should replace those of s: because they are
// newer, or because s cannot renew its own.
func (s *Source) outdated(stored *Tokens) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return stored.Issued.After(s.tokens.Issued) || errors.Is(s.failure, ErrSignInAgain) && !s.tokens.same(stored)
}

// MarshalJSON encodes UserInfo as its claims.
func (u *UserInfo) MarshalJSON() ([]byte, error) { return u.Claims, nil }

// UnmarshalJSON decodes the output of MarshalJSON.
func (u *UserInfo) UnmarshalJSON(document []byte) error {
	var members struct {
		Subject string `json:"sub"`
	}
	if err := json.Unmarshal(document, &members); err != nil {
		return fmt.Errorf("client: decode stored UserInfo: %w", err)
	}
	u.Subject, u.Claims = members.Subject, append(json.RawMessage(nil), document...)
	return nil
}
