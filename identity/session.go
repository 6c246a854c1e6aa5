package identity

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/valetkey/valetkey/storage"
)

// Kinds of tickets.
const (
	kindSession storage.Kind = "session"
	kindDevice  storage.Kind = "device"
	kindSetup   storage.Kind = "setup"
)

// maxSessions is how many sessions a person is shown.
const maxSessions = 100

// Session is a sign-in: one person at one browser, until it expires or is ended.
type Session struct {
	// ID is its public name. The secret that opens it is in the browser's cookie alone.
	ID string
	// User is the person as they are now.
	User *User
	SessionDetails
	Expires time.Time
}

// SessionDetails is how and where a session began.
type SessionDetails struct {
	AuthTime time.Time
	// AMR and ACR name the methods (RFC 8176) and the class of the authentication.
	AMR []string
	ACR string
	// UserAgent is cut at 256 bytes. Remote is the browser's address.
	UserAgent string
	Remote    netip.Addr
}

// sessionData is the Data of a session's ticket.
type sessionData struct {
	User      string     `json:"user"`
	AuthTime  int64      `json:"auth_time"` // milliseconds
	AMR       []string   `json:"amr,omitempty"`
	ACR       string     `json:"acr,omitempty"`
	UserAgent string     `json:"user_agent,omitempty"`
	Remote    netip.Addr `json:"remote,omitzero"`
}

// StartSession begins a session of a person who has just authenticated and returns the
// secret for their cookie. It is always a new one, whatever the browser had before. A zero
// AuthTime means now.
func (a *Accounts) StartSession(ctx context.Context, now time.Time, user *User, details SessionDetails) (secret string, session *Session, err error) {
	if details.AuthTime.IsZero() {
		details.AuthTime = now
	}
	details.UserAgent = cut(details.UserAgent, 256)
	secret = newSecret()
	key := kindSession.Hash(secret)
	data, err := json.Marshal(sessionData{
		User: user.ID, AuthTime: details.AuthTime.UnixMilli(), AMR: details.AMR, ACR: details.ACR,
		UserAgent: details.UserAgent, Remote: details.Remote,
	})
	if err != nil {
		return "", nil, fmt.Errorf("encode a session: %w", err)
	}
	expires := now.Add(a.sessionLifetime)
	ticket := storage.Ticket{Key: key, Family: SessionFamily(user.ID), Data: data, Expires: expires}
	if err := a.store.Put(ctx, now, ticket); err != nil {
		return "", nil, fmt.Errorf("store a session: %w", err)
	}
	return secret, &Session{ID: sid(key), User: user, SessionDetails: details, Expires: expires}, nil
}

// Session returns the session that a cookie's secret opens; storage.ErrNotFound if there
// is none, or no longer, or if its person is gone or disabled.
func (a *Accounts) Session(ctx context.Context, now time.Time, secret string) (*Session, error) {
	if secret == "" {
		return nil, storage.ErrNotFound
	}
	return a.session(ctx, now, kindSession.Hash(secret))
}

// SessionByID is Session by the public name.
func (a *Accounts) SessionByID(ctx context.Context, now time.Time, id string) (*Session, error) {
	key, ok := sessionKey(id)
	if !ok {
		return nil, storage.ErrNotFound
	}
	return a.session(ctx, now, key)
}

func (a *Accounts) session(ctx context.Context, now time.Time, key storage.Key) (*Session, error) {
	ticket, err := a.store.Get(ctx, now, key)
	if err != nil {
		return nil, fmt.Errorf("find a session: %w", err)
	}
	session, userID, err := readSession(ticket)
	if err != nil {
		return nil, err
	}
	session.User, err = a.User(ctx, userID)
	return session, err
}

// User returns a person by ID; storage.ErrNotFound if they are gone or disabled.
func (a *Accounts) User(ctx context.Context, id string) (*User, error) {
	user, err := a.store.User(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("find a person: %w", err)
	}
	if user.Disabled {
		return nil, storage.ErrNotFound
	}
	return user, nil
}

// Sessions returns the sessions of a person, the youngest first, 100 at most. Their User
// is nil.
func (a *Accounts) Sessions(ctx context.Context, now time.Time, userID string) ([]Session, error) {
	tickets, err := a.store.FindFamily(ctx, now, SessionFamily(userID), kindSession, maxSessions)
	if err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	sessions := make([]Session, 0, len(tickets))
	for _, ticket := range tickets {
		session, _, err := readSession(ticket)
		if err != nil {
			return nil, err
		}
		sessions = append(sessions, *session)
	}
	return sessions, nil
}

// EndSession ends a session by its public name; one that is over already is no error.
func (a *Accounts) EndSession(ctx context.Context, id string) error {
	key, ok := sessionKey(id)
	if !ok {
		return nil
	}
	if err := a.store.Delete(ctx, key); err != nil {
		return fmt.Errorf("end a session: %w", err)
	}
	a.logger.InfoContext(ctx, "session ended", "event", EventSignOut, "session", id)
	return nil
}

// EndSessions ends all sessions of a person, and forgets their devices.
func (a *Accounts) EndSessions(ctx context.Context, userID string) error {
	if err := a.store.DeleteFamily(ctx, SessionFamily(userID), kindSession, kindDevice); err != nil {
		return fmt.Errorf("end all sessions: %w", err)
	}
	a.logger.InfoContext(ctx, "all sessions ended", "event", EventSessionsEnded, "user", userID)
	return nil
}

// RememberDevice returns a secret for the device cookie of a browser at which a person has
// just authenticated: the one that it has, if that is theirs, or else a new one.
func (a *Accounts) RememberDevice(ctx context.Context, now time.Time, userID, device string) (string, error) {
	known, err := a.deviceOf(ctx, now, device)
	if err != nil {
		return "", fmt.Errorf("recognise the device: %w", err)
	}
	if known == userID {
		return device, nil
	}
	device = newSecret()
	ticket := storage.Ticket{Key: kindDevice.Hash(device), Family: SessionFamily(userID), Data: []byte(userID), Expires: now.Add(deviceLifetime)}
	if err := a.store.Put(ctx, now, ticket); err != nil {
		return "", fmt.Errorf("remember a device: %w", err)
	}
	return device, nil
}

// deviceOf returns the ID of the person whom a device signed in before; "" if it is not
// known.
func (a *Accounts) deviceOf(ctx context.Context, now time.Time, device string) (string, error) {
	if device == "" {
		return "", nil
	}
	ticket, err := a.store.Get(ctx, now, kindDevice.Hash(device))
	if errors.Is(err, storage.ErrNotFound) {
		return "", nil
	}
	return string(ticket.Data), err
}

func readSession(ticket storage.Ticket) (*Session, string, error) {
	var d sessionData
	if err := json.Unmarshal(ticket.Data, &d); err != nil {
		return nil, "", fmt.Errorf("decode a session: %w", err)
	}
	return &Session{
		ID:             sid(ticket.Key),
		SessionDetails: SessionDetails{time.UnixMilli(d.AuthTime).UTC(), d.AMR, d.ACR, d.UserAgent, d.Remote},
		Expires:        ticket.Expires,
	}, d.User, nil
}

func sid(key storage.Key) string { return base64.RawURLEncoding.EncodeToString(key.ID[:]) }

func sessionKey(id string) (storage.Key, bool) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(id)
	key := storage.Key{Kind: kindSession}
	if err != nil || copy(key.ID[:], b) != len(key.ID) || len(b) != len(key.ID) {
		return storage.Key{}, false
	}
	return key, true
}

// newSecret returns 256 random bits in 43 characters.
func newSecret() string {
	var b [32]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// cut shortens s to at most n bytes of valid UTF-8.
func cut(s string, n int) string {
	if len(s) > n {
		for n > 0 && !utf8.RuneStart(s[n]) {
			n--
		}
		s = s[:n]
	}
	return strings.ToValidUTF8(s, "")
}
