package identity

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/valetkey/valetkey/audit"
	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/storage"
)

const (
	// maxSessions is how many sessions of a user are listed.
	maxSessions = 100
	// enrolmentSession is how long a user may take to set up a method.
	enrolmentSession = 30 * time.Minute
	// maxFormer is how many earlier names of a session are kept.
	maxFormer = 16
)

// Session is a sign-in of one user in one browser, until it expires or is ended.
type Session struct {
	// ID is its public name. The secret that opens it is only in the browser's cookie.
	ID string
	// User is the current record of the user.
	User *User
	SessionDetails
	Expires time.Time

	former []string // its names from before the user signed in again
	left   []string // references of sessions at providers of users who were signed in before (AtProviders)
}

// Former returns the names of the session from before the user signed in again, the oldest
// first.
func (s *Session) Former() []string { return slices.Clone(s.former) }

// SessionDetails describes how and where a session began.
type SessionDetails struct {
	AuthTime time.Time
	// AMR and ACR name the methods (RFC 8176) and the class of the authentication.
	AMR []string
	ACR string
	// UserAgent is truncated to 256 bytes. Remote is the browser's address.
	UserAgent string
	Remote    netip.Addr
	// Proofs are what AMR and ACR follow from, and proofs from before the user signed in again. A
	// session that an earlier version stored has none.
	Proofs []ProvedMethod
	// Enrolling is set if the user must set up a method to sign in, and can do nothing else in this
	// session. It is the query with which the sign-in continues, and begins with "?".
	Enrolling string
	// SignedInAt is when the user signed in here, if that was after AuthTime: the user may have
	// authenticated at another provider long before. Zero means AuthTime.
	SignedInAt time.Time
	// NotAfter is when the session ends at the latest; zero if there is no limit but the lifetime. It
	// is not stored.
	NotAfter time.Time
}

// StartSession starts a session of a user who has just authenticated and returns the secret for
// the cookie. The secret is always new, whatever the browser had before. A zero AuthTime means
// now.
//
// old is the browser's previous session; nil if there was none. If it belongs to another user, it
// ends; its user may still be signed in at providers (AtProviders). If it belongs to the same user, it continues under a new name and secret: the old secret
// becomes invalid, but what was started under the old name, for instance in another tab, is not
// ended by the new sign-in.
//
// It returns ErrWrongCredentials if the user was disabled or changed the password after
// authenticating.
func (a *Accounts) StartSession(ctx context.Context, now time.Time, user *User, details SessionDetails, old *Session) (secret string, session *Session, err error) {
	if details.AuthTime.IsZero() {
		details.AuthTime = now
		if now.Before(user.EndedAt) { // the sign-in began before the end and was checked after it
			details.AuthTime = user.EndedAt
		}
	}
	details.UserAgent = cut(details.UserAgent, 256)
	if old == nil && details.AuthTime.Before(user.EndedAt) {
		details.AuthTime = user.EndedAt // as above: the proofs were checked with this record
	}
	var left []string
	if old != nil {
		left = old.left
	}
	if old != nil && old.User.ID != user.ID {
		left = old.AtProviders()
		if err := a.EndSession(ctx, now, old.ID); err != nil {
			return "", nil, err
		}
		old = nil
	}
	left = left[:min(len(left), maxProofs)]
	secret, session, err = a.putSession(ctx, now, user, details, left, old)
	if errors.Is(err, storage.ErrSpent) || errors.Is(err, storage.ErrNotFound) {
		// Another tab was faster, and the browser may keep the cookie of either tab; or the old
		// session has just ended.
		secret, session, err = a.putSession(ctx, now, user, details, left, nil)
	}
	if err != nil {
		return "", nil, err
	}
	// All access of the user may have been ended after the password was checked and before the
	// session was stored.
	current, err := a.store.User(ctx, user.ID)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return "", nil, fmt.Errorf("read the user again: %w", err)
	}
	if err == nil && current.MaySignIn() && current.EndedAt.Equal(user.EndedAt) {
		return secret, session, nil
	}
	if err := a.EndSession(ctx, now, session.ID); err != nil {
		return "", nil, err
	}
	return "", nil, ErrWrongCredentials
}

// putSession stores a new session, which replaces the old one, if any.
func (a *Accounts) putSession(ctx context.Context, now time.Time, user *User, details SessionDetails, left []string, old *Session) (string, *Session, error) {
	secret := newSecret()
	key := ticketkind.Session.Hash(secret)
	session := &Session{ID: sid(key), User: user, SessionDetails: details, Expires: now.Add(a.sessionLifetime), left: left}
	if details.Enrolling != "" {
		session.Expires = now.Add(min(enrolmentSession, a.sessionLifetime))
	}
	if !details.NotAfter.IsZero() && details.NotAfter.Before(session.Expires) {
		session.Expires = details.NotAfter
	}
	var spend []storage.Key
	if old != nil {
		oldKey, _ := SessionKey(old.ID)
		spend = []storage.Key{oldKey}
		session.former = append(slices.Clone(old.former), old.ID)
		session.former = session.former[max(0, len(session.former)-maxFormer):]
	}
	data, err := json.Marshal(sessionData{
		User: user.ID, AuthTime: details.AuthTime.UnixMilli(), AMR: details.AMR, ACR: details.ACR,
		UserAgent: details.UserAgent, Remote: details.Remote, Former: session.former, Proofs: encodeProofs(details.Proofs), Left: left,
		Enrolling:  details.Enrolling,
		SignedInAt: milliseconds(details.SignedInAt),
	})
	if err != nil {
		return "", nil, fmt.Errorf("encode a session: %w", err)
	}
	ticket := storage.Ticket{Key: key, Family: SessionFamily(user.ID), Data: data, Expires: session.Expires}
	if err := a.store.Spend(auditSignIn(ctx, session), now, spend, ticket); err != nil {
		return "", nil, fmt.Errorf("store a session: %w", err)
	}
	return secret, session, nil
}

// Session returns the session of a cookie's secret; storage.ErrNotFound if there is none, or if
// its user does not exist or is disabled.
func (a *Accounts) Session(ctx context.Context, now time.Time, secret string) (*Session, error) {
	return a.session(ctx, now, secret, a.store.User)
}

// SignedIn is like Session, for clients: it finds no session of a user whose account is being deleted,
// and Session.User is from Store.CachedUser. The session itself is always
// read. It ends in the same transaction as the user's access.
func (a *Accounts) SignedIn(ctx context.Context, now time.Time, secret string) (*Session, error) {
	session, err := a.session(ctx, now, secret, a.store.CachedUser)
	if err == nil && !session.User.Active() {
		return nil, storage.ErrNotFound
	}
	return session, err
}

// findUser is Store.User or Store.CachedUser.
type findUser func(ctx context.Context, id string) (*User, error)

func (a *Accounts) session(ctx context.Context, now time.Time, secret string, find findUser) (*Session, error) {
	if secret == "" {
		return nil, storage.ErrNotFound
	}
	ticket, err := a.store.Get(ctx, now, ticketkind.Session.Hash(secret))
	if err != nil {
		return nil, fmt.Errorf("find a session: %w", err)
	}
	if !ticket.Spent.IsZero() {
		return nil, storage.ErrNotFound // StartSession replaced it
	}
	return openSession(ctx, ticket, find)
}

// SessionByID is like Session, by the current or an earlier public name.
func (a *Accounts) SessionByID(ctx context.Context, now time.Time, id string) (*Session, error) {
	return a.sessionByID(ctx, now, id, a.store.User)
}

// SessionActive reports whether SessionByID finds a session. It reads the session, and uses
// Store.CachedUser.
func (a *Accounts) SessionActive(ctx context.Context, now time.Time, id string) (bool, error) {
	session, err := a.sessionByID(ctx, now, id, a.store.CachedUser)
	return active(session, err)
}

// SessionTicketActive is SessionActive for a session whose ticket was just read (SessionKey).
func (a *Accounts) SessionTicketActive(ctx context.Context, now time.Time, ticket storage.Ticket) (bool, error) {
	if !ticket.Spent.IsZero() { // an earlier name of the session
		session, err := a.currentSession(ctx, now, ticket, a.store.CachedUser)
		return active(session, err)
	}
	d, err := decodeSession(ticket.Data)
	if err != nil {
		return false, fmt.Errorf("decode a session: %w", err)
	}
	validity, err := a.store.UserValidity(ctx, d.User)
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("find the user of a session: %w", err)
	}
	return validity.Includes(time.UnixMilli(d.AuthTime), append(d.Former, sid(ticket.Key))...), nil
}

// active reports whether a session was found, in which clients may act for the user.
func active(session *Session, err error) (bool, error) {
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	return err == nil && session.User.Active(), err
}

func (a *Accounts) sessionByID(ctx context.Context, now time.Time, id string, find findUser) (*Session, error) {
	key, ok := SessionKey(id)
	if !ok {
		return nil, storage.ErrNotFound
	}
	ticket, err := a.store.Get(ctx, now, key)
	if err != nil {
		return nil, fmt.Errorf("find a session: %w", err)
	}
	return a.currentSession(ctx, now, ticket, find)
}

// currentSession returns the session of a ticket, which may be that of an earlier name.
func (a *Accounts) currentSession(ctx context.Context, now time.Time, ticket storage.Ticket, find findUser) (*Session, error) {
	if ticket.Spent.IsZero() {
		return openSession(ctx, ticket, find)
	}
	id := sid(ticket.Key)
	tickets, err := a.store.FindFamily(ctx, now, ticket.Family, ticketkind.Session, maxSessions)
	if err != nil {
		return nil, fmt.Errorf("find the current name of a session: %w", err)
	}
	for _, ticket := range tickets {
		session, _, err := readSession(ticket)
		if err != nil {
			return nil, err
		}
		if ticket.Spent.IsZero() && slices.Contains(session.former, id) {
			return openSession(ctx, ticket, find)
		}
	}
	return nil, storage.ErrNotFound
}

func openSession(ctx context.Context, ticket storage.Ticket, find findUser) (*Session, error) {
	session, userID, err := readSession(ticket)
	if err != nil {
		return nil, err
	}
	if session.User, err = find(ctx, userID); err != nil {
		return nil, fmt.Errorf("find the user of a session: %w", err)
	}
	validity := session.User.Validity()
	validity.Active = session.User.MaySignIn()
	if !validity.Includes(session.AuthTime, append(session.Former(), session.ID)...) {
		return nil, storage.ErrNotFound // it began while all access of the user ended
	}
	return session, nil
}

// User returns a user by ID; storage.ErrNotFound if the user does not exist, is disabled or is
// retired.
func (a *Accounts) User(ctx context.Context, id string) (*User, error) {
	user, err := a.AnyUser(ctx, id)
	if err != nil {
		return nil, err
	}
	if !user.Active() {
		return nil, storage.ErrNotFound
	}
	return user, nil
}

// userWhoSignsIn is like User, and also finds a user whose account is being deleted, who may sign in to
// keep it.
func (a *Accounts) userWhoSignsIn(ctx context.Context, id string) (*User, error) {
	user, err := a.AnyUser(ctx, id)
	if err != nil {
		return nil, err
	}
	if !user.MaySignIn() {
		return nil, storage.ErrNotFound
	}
	return user, nil
}

// CachedUser is like User, with Store.CachedUser.
func (a *Accounts) CachedUser(ctx context.Context, id string) (*User, error) {
	user, err := a.store.CachedUser(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("find a user: %w", err)
	}
	if !user.Active() {
		return nil, storage.ErrNotFound
	}
	return user, nil
}

// Valid reports whether a user is active and a token that was issued at a time, in a session, has
// not ended since.
func (a *Accounts) Valid(ctx context.Context, id, session string, issued time.Time) (bool, error) {
	validity, err := a.store.UserValidity(ctx, id)
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read the validity of a user: %w", err)
	}
	return validity.Includes(issued, session), nil
}

// AnyUser returns a user by ID, active or not; storage.ErrNotFound if the user does not exist.
func (a *Accounts) AnyUser(ctx context.Context, id string) (*User, error) {
	user, err := a.store.User(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("find a user: %w", err)
	}
	return user, nil
}

// Sessions returns at most 100 sessions of a user, the newest first. Their User is nil.
func (a *Accounts) Sessions(ctx context.Context, now time.Time, userID string) ([]Session, error) {
	tickets, err := a.store.FindFamily(ctx, now, SessionFamily(userID), ticketkind.Session, maxSessions)
	if err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	sessions := make([]Session, 0, len(tickets))
	for _, ticket := range tickets {
		if !ticket.Spent.IsZero() {
			continue // it continues under another name
		}
		session, _, err := readSession(ticket)
		if err != nil {
			return nil, err
		}
		sessions = append(sessions, *session)
	}
	return sessions, nil
}

// EndSession ends a session by its public name. It is not an error if it has already ended.
func (a *Accounts) EndSession(ctx context.Context, now time.Time, id string) error {
	key, ok := SessionKey(id)
	if !ok {
		return nil
	}
	ticket, err := a.store.Get(ctx, now, key)
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	if err == nil {
		err = a.endTicket(ctx, now, ticket)
	}
	if err != nil {
		return fmt.Errorf("end a session: %w", err)
	}
	if a.events.Enabled(ctx, event.SessionEnded) {
		who := slog.Attr{}
		if _, userID, err := readSession(ticket); err == nil {
			who = a.namedByID(ctx, userID)
		}
		a.events.Record(ctx, event.SessionEnded, who, slog.String("session", id))
	}
	return nil
}

// EndSessions ends all sessions of a user and forgets the user's devices.
func (a *Accounts) EndSessions(ctx context.Context, now time.Time, userID string) error {
	if err := a.endEachSession(ctx, now, userID); err != nil {
		return err
	}
	// This also removes sessions that began in the meantime.
	all := audit.WithRecord(ctx, audit.Record{Event: "session.all_ended", Subject: userID, Object: audit.Object{Kind: audit.ObjectUser, ID: userID}})
	if err := a.store.DeleteFamily(all, SessionFamily(userID), ticketkind.Session, ticketkind.RememberedDevice, ticketkind.RememberedFactor, ticketkind.KnownNetwork, ticketkind.SignInProgress); err != nil {
		return fmt.Errorf("end all sessions: %w", err)
	}
	if a.events.Enabled(ctx, event.SessionsAllEnded) {
		a.events.Record(ctx, event.SessionsAllEnded, a.namedByID(ctx, userID))
	}
	return nil
}

// endEachSession ends all sessions of a user, however many there are.
func (a *Accounts) endEachSession(ctx context.Context, now time.Time, userID string) error {
	for {
		tickets, err := a.store.FindFamily(ctx, now, SessionFamily(userID), ticketkind.Session, maxSessions)
		if err != nil {
			return fmt.Errorf("list sessions: %w", err)
		}
		for _, ticket := range tickets {
			if err := a.endTicket(ctx, now, ticket); err != nil {
				return fmt.Errorf("end sessions: %w", err)
			}
		}
		if len(tickets) == 0 {
			return nil
		}
	}
}

// RememberDevice returns a secret for the device cookie of a browser in which a user has just
// authenticated: the current one, if it belongs to the user, or else a new one.
func (a *Accounts) RememberDevice(ctx context.Context, now time.Time, userID, device string) (string, error) {
	known, err := a.deviceOf(ctx, now, device)
	if err != nil {
		return "", fmt.Errorf("recognize the device: %w", err)
	}
	if known == userID {
		return device, nil
	}
	device = newSecret()
	ticket := storage.Ticket{Key: ticketkind.RememberedDevice.Hash(device), Family: SessionFamily(userID), Data: []byte(userID), Expires: now.Add(deviceLifetime)}
	if err := a.store.Put(ctx, now, ticket); err != nil {
		return "", fmt.Errorf("remember a device: %w", err)
	}
	return device, nil
}

// deviceOf returns the ID of the user who signed in on a device before; "" if the device is
// unknown.
func (a *Accounts) deviceOf(ctx context.Context, now time.Time, device string) (string, error) {
	if device == "" {
		return "", nil
	}
	ticket, err := a.store.Get(ctx, now, ticketkind.RememberedDevice.Hash(device))
	if errors.Is(err, storage.ErrNotFound) {
		return "", nil
	}
	return string(ticket.Data), err
}

func readSession(ticket storage.Ticket) (*Session, string, error) {
	d, err := decodeSession(ticket.Data)
	if err != nil {
		return nil, "", fmt.Errorf("decode a session: %w", err)
	}
	return &Session{
		ID:             sid(ticket.Key),
		SessionDetails: SessionDetails{time.UnixMilli(d.AuthTime).UTC(), d.AMR, d.ACR, d.UserAgent, d.Remote, decodeProofs(d.Proofs), d.Enrolling, fromMilliseconds(d.SignedInAt), time.Time{}},
		Expires:        ticket.Expires,
		former:         d.Former,
		left:           d.Left,
	}, d.User, nil
}

func sid(key storage.Key) string { return base64.RawURLEncoding.EncodeToString(key.ID[:]) }

// SessionKey returns the key of the ticket of a session, by the session's public name; false if it
// is not the name of a session.
func SessionKey(id string) (storage.Key, bool) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(id)
	key := storage.Key{Kind: ticketkind.Session}
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

// cut truncates s to at most n bytes of valid UTF-8.
func cut(s string, n int) string {
	if len(s) > n {
		for n > 0 && !utf8.RuneStart(s[n]) {
			n--
		}
		s = s[:n]
	}
	return strings.ToValidUTF8(s, "")
}

func milliseconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMilliseconds(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
