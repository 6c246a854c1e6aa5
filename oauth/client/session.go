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

// Session is one person who is signed in to a web application in one browser. Whoever
// can read a stored one can act for the person; printing it shows nothing.
type Session struct {
	// ID is what the store knows the session by. It is not what the cookie holds, so
	// that a store that was read opens no session.
	ID      string `json:"id"`
	Issuer  string `json:"iss"`
	Subject string `json:"sub"`
	// SessionID is the provider's own name of the sign-in, by which it may end it; empty
	// if the provider gave none.
	SessionID string `json:"sid,omitempty"`
	// SessionState is what the provider's page compares, to say whether that sign-in has
	// changed (OpenID Connect Session Management, section 2); empty if it does not.
	SessionState string `json:"session_state,omitempty"`
	// Tokens are those of the sign-in or of the last refresh. Use Source, which renews
	// them, to call an API.
	Tokens *Tokens `json:"tokens"`
	// UserInfo is what the UserInfo endpoint said at the sign-in, if it was asked.
	UserInfo *UserInfo `json:"userinfo,omitempty"`
	// Data is what RelyingPartyConfig.OnSignIn adds.
	Data    map[string]string `json:"data,omitempty"`
	Started time.Time         `json:"started"`
	Expires time.Time         `json:"expires"`
	// Version is how often the session was replaced. It belongs to the store.
	Version int64 `json:"version,omitempty"`
	// Renewing is until when the process that renews the tokens has them to itself; zero if
	// none does.
	Renewing time.Time `json:"renewing,omitzero"`

	source *Source
}

// Format keeps tokens out of logs and messages, whatever the verb.
func (Session) Format(s fmt.State, _ rune) { io.WriteString(s, "[session]") }

// LogValue keeps tokens out of structured logs.
func (Session) LogValue() slog.Value { return slog.StringValue("[session]") }

// Source hands out the session's tokens and renews them. All requests of one session
// share it, so that one refresh at a time is under way. When the session has ended
// meanwhile, tokens are renewed no more, and it fails with ErrSignInAgain.
func (s *Session) Source() *Source { return s.source }

// Decode reads the person's claims into a struct or map: those of UserInfo if it was
// asked, else those of the ID token.
func (s *Session) Decode(into any) error {
	switch {
	case s.UserInfo != nil:
		return s.UserInfo.Decode(into)
	case s.Tokens == nil || s.Tokens.Identity == nil:
		return errors.New("client: the session has no claims: there was neither an ID token nor UserInfo")
	}
	return s.Tokens.Identity.Decode(into)
}

// SessionStore keeps the sessions of a RelyingParty. A web application that runs on one
// machine uses MemorySessions; one that runs on several, or that keeps its users signed in
// over a restart, uses package sqlsession or a store of its own, where a Session is kept as
// JSON. Package sessiontest checks that a store keeps this contract. Methods are called
// concurrently.
type SessionStore interface {
	// Put keeps a new session until it expires.
	Put(ctx context.Context, s *Session) error
	// Get returns the session of an ID, which the caller may change, with its present
	// Version; nil if there is none or it has expired.
	Get(ctx context.Context, id string) (*Session, error)
	// Replace stores s in place of the session with its ID, if that is still there and has
	// the Version of s, and reports whether it did. What is stored has a Version that is
	// higher by one. If the session has ended, or was replaced since s was read, it does
	// nothing: a session that ended must not come back, and nobody's change may be lost.
	Replace(ctx context.Context, s *Session) (bool, error)
	// Delete ends the session of an ID, if it is there.
	Delete(ctx context.Context, id string) error
	// DeleteSignedOut ends all sessions of an issuer that have the sid and the sub that
	// are not empty. At least one is not.
	DeleteSignedOut(ctx context.Context, issuer, subject, sessionID string) error
}

// sessionKey is the ID under which the session of a cookie is stored.
func sessionKey(cookie string) string {
	sum := sha256.Sum256([]byte(cookie))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// MemorySessions keeps sessions in memory. When it is full the oldest session ends.
type MemorySessions struct {
	most int

	mu    sync.Mutex
	order *list.List               // of Session, the oldest first
	byID  map[string]*list.Element // in order
	// bySID are those of an issuer and sid: anybody can ask to end them by the front channel.
	bySID map[string][]*list.Element
}

// NewMemorySessions returns an empty store for at most so many sessions. Each takes a few
// kilobytes: what its tokens are long.
func NewMemorySessions(most int) *MemorySessions {
	return &MemorySessions{most: most, order: list.New(), byID: map[string]*list.Element{}, bySID: map[string][]*list.Element{}}
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

// sources holds the Source of each session that is in use, so that all of its requests
// share one.
type sources struct {
	mu   sync.Mutex
	byID map[string]*Source
}

// maxSources bounds how many are held. One that is dropped is made anew when its session
// is used next.
const maxSources = 10_000

// of returns the source of a stored session. If another process has refreshed the
// session's tokens meanwhile, it begins with those.
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
		// What is being renewed, or could not be stored, nobody else has.
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

// busy reports whether tokens are being renewed or wait to be stored.
func (s *Source) busy() bool {
	if s.flight.underWay() {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unsaved
}

// outdated reports whether other tokens that are stored go before those that s holds:
// because they are newer, or because s cannot renew its own.
func (s *Source) outdated(stored *Tokens) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return stored.Issued.After(s.tokens.Issued) || errors.Is(s.failure, ErrSignInAgain) && !s.tokens.same(stored)
}

// MarshalJSON keeps UserInfo as the claims that it is.
func (u *UserInfo) MarshalJSON() ([]byte, error) { return u.Claims, nil }

// UnmarshalJSON reads what MarshalJSON wrote.
func (u *UserInfo) UnmarshalJSON(document []byte) error {
	var members struct {
		Subject string `json:"sub"`
	}
	if err := json.Unmarshal(document, &members); err != nil {
		return fmt.Errorf("client: stored UserInfo: %w", err)
	}
	u.Subject, u.Claims = members.Subject, append(json.RawMessage(nil), document...)
	return nil
}
