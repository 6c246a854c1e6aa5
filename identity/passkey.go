package identity

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/storage"
)

// Limits of passkeys. WebAuthn Level 3, section 4, bounds the length of a credential ID, and that of
// the user handle, which is the ID of the user.
const (
	MaxPasskeys          = 20
	MaxCredentialIDBytes = 1023
	MaxUserHandleBytes   = 64
)

const (
	// passkeyUseEvery is how often the time of the last use is stored: a sign-in should not have to
	// change the user.
	passkeyUseEvery = time.Hour
	// removedPasskeyLifetime is how long the server knows that a passkey was removed.
	removedPasskeyLifetime = 365 * 24 * time.Hour
)

// Errors of passkeys.
var (
	ErrPasskeyExists = errors.New("identity: the passkey was already added")
	// ErrPasskeyReplayed means that the challenge of a ceremony was used before.
	ErrPasskeyReplayed = errors.New("identity: the challenge was used before")
	// ErrSignCount means that the signature counter of a passkey did not increase: another
	// authenticator may have a copy of the key (WebAuthn Level 3, section 6.1.1).
	ErrSignCount = errors.New("identity: the signature counter of the passkey did not increase")
)

// Passkey is the credential record (WebAuthn Level 3, section 4) of a discoverable credential.
// Package identity/passkey creates it, and verifies assertions with it. A record is not changed, but
// replaced.
type Passkey struct {
	CredentialID []byte `json:"credential_id"`
	// PublicKey is a COSE_Key (RFC 9052, section 7).
	PublicKey []byte `json:"public_key"`
	// AAGUID is the model of the authenticator; "" if it does not say. Without an attestation it is
	// only good for a name.
	AAGUID string `json:"aaguid,omitempty"`
	// Attestation is the format of an attestation statement that was required and verified; "" if
	// none was required.
	Attestation string `json:"attestation,omitempty"`
	// Transports say how a browser reaches the authenticator. They are passed back to browsers.
	Transports []string `json:"transports,omitempty"`
	SignCount  uint32   `json:"sign_count,omitempty"`
	// BackupEligible is set if the passkey can be copied to other devices, which never changes.
	// BackedUp is set if it has been.
	BackupEligible bool `json:"backup_eligible,omitempty"`
	BackedUp       bool `json:"backed_up,omitempty"`
}

// Passkeys returns the passkeys of a user.
func (u *User) Passkeys() []Passkey {
	var passkeys []Passkey
	for _, a := range u.Authenticators {
		if a.Passkey != nil {
			passkeys = append(passkeys, *a.Passkey)
		}
	}
	return passkeys
}

// PasskeyByID returns the passkey of a user with a credential ID; nil if there is none.
func (u *User) PasskeyByID(credentialID []byte) *Authenticator {
	for i, a := range u.Authenticators {
		if a.Passkey != nil && bytes.Equal(a.Passkey.CredentialID, credentialID) {
			return &u.Authenticators[i]
		}
	}
	return nil
}

// CanHavePasskeys reports whether the ID of a user can be a user handle.
func (u *User) CanHavePasskeys() bool { return len(u.ID) <= MaxUserHandleBytes }

// AddPasskey adds a passkey to a user. The error is ErrPasskeyExists, ErrTooManyAuthenticators,
// storage.ErrNotFound if the user is not active, or an internal error.
func (a *Accounts) AddPasskey(ctx context.Context, now time.Time, user *User, name string, p Passkey, from Activity) (id string, err error) {
	return a.addAuthenticator(ctx, now, user.ID, Authenticator{Kind: MethodPasskey, Name: name, Passkey: &p}, from, func(stored *User) error {
		if len(stored.Passkeys()) >= MaxPasskeys {
			return ErrTooManyAuthenticators
		}
		if stored.PasskeyByID(p.CredentialID) != nil {
			return ErrPasskeyExists
		}
		return nil
	})
}

// RemovePasskey removes a passkey of a user. The server remembers its public key for a year, so that
// it can tell a password manager that still has the passkey (RemovedPasskey). The error is ErrLastMethod
// or an internal error.
func (a *Accounts) RemovePasskey(ctx context.Context, now time.Time, user *User, id string, from Activity) error {
	found := user.Authenticator(id)
	if found == nil || found.Passkey == nil {
		return nil
	}
	if !a.CanRemove(user, id) {
		return ErrLastMethod
	}
	data, err := json.Marshal(removedPasskey{user.ID, *found.Passkey})
	if err != nil {
		return fmt.Errorf("encode a removed passkey: %w", err)
	}
	ticket := storage.Ticket{Key: removedPasskeyKey(found.Passkey.CredentialID), Family: removedPasskeyFamily(user.ID), Data: data, Expires: now.Add(removedPasskeyLifetime)}
	if err := a.store.Put(ctx, now, ticket); err != nil && !errors.Is(err, storage.ErrExists) {
		return fmt.Errorf("remember a removed passkey: %w", err)
	}
	return a.RemoveAuthenticator(ctx, now, user.ID, id, from)
}

// removedPasskey is the Data of a ticket.
type removedPasskey struct {
	User    string  `json:"user"`
	Passkey Passkey `json:"passkey"`
}

// removedPasskeyFamily is the ticket family of the removed passkeys of a user. It ends with the account, and not
// with the sessions.
func removedPasskeyFamily(userID string) string { return "removed passkeys:" + userID }

func removedPasskeyKey(credentialID []byte) storage.Key {
	return ticketkind.RemovedPasskey.Hash(string(credentialID))
}

// RemovedPasskey returns a passkey that its user has removed, and the ID of the user;
// storage.ErrNotFound if there is none. Only who proves to have the passkey may learn that it was
// removed.
func (a *Accounts) RemovedPasskey(ctx context.Context, now time.Time, credentialID []byte) (userID string, p *Passkey, err error) {
	ticket, err := a.store.Get(ctx, now, removedPasskeyKey(credentialID))
	if err != nil {
		return "", nil, fmt.Errorf("find a removed passkey: %w", err)
	}
	var removed removedPasskey
	if err := json.Unmarshal(ticket.Data, &removed); err != nil {
		return "", nil, fmt.Errorf("decode a removed passkey: %w", err)
	}
	return removed.User, &removed.Passkey, nil
}

// SpendPasskeyChallenge makes the challenge of a ceremony unusable. Of several callers, one succeeds;
// the others get ErrPasskeyReplayed. Nothing was stored when the challenge was issued.
func (a *Accounts) SpendPasskeyChallenge(ctx context.Context, now time.Time, challenge string, expires time.Time) error {
	err := a.store.Put(ctx, now, storage.Ticket{Key: ticketkind.PasskeyChallenge.Hash(challenge), Expires: expires})
	if errors.Is(err, storage.ErrExists) {
		return ErrPasskeyReplayed
	}
	if err != nil {
		return fmt.Errorf("store that a challenge was used: %w", err)
	}
	return nil
}

// UsePasskey records a verified use of a passkey. Most uses change nothing: passkeys that are backed
// up have no signature counter, and the time of the last use is stored once an hour.
//
// A counter that does not increase is an event. If the passkey cannot be copied by its authenticator,
// it is also refused with ErrSignCount; the providers of other passkeys have several copies, whose
// counters are not the same. storage.ErrNotFound means that the user is not active any more, or that
// the passkey was removed.
func (a *Accounts) UsePasskey(ctx context.Context, now time.Time, user *User, id string, signCount uint32, backedUp bool) error {
	found := user.Authenticator(id)
	if found == nil || found.Passkey == nil {
		return storage.ErrNotFound
	}
	counts := signCount > 0 || found.Passkey.SignCount > 0
	if !counts && found.Passkey.BackedUp == backedUp && now.Sub(found.LastUsedAt) < passkeyUseEvery {
		return nil
	}
	decreased := false
	err := a.UpdateAuthenticator(ctx, user.ID, id, func(stored *Authenticator) error {
		if stored.Passkey == nil {
			return storage.ErrNotFound
		}
		p := *stored.Passkey
		decreased = (signCount > 0 || p.SignCount > 0) && signCount <= p.SignCount
		if decreased && !p.BackupEligible {
			return ErrSignCount
		}
		p.SignCount, p.BackedUp = max(p.SignCount, signCount), backedUp
		if now.Sub(stored.LastUsedAt) >= passkeyUseEvery {
			stored.LastUsedAt = now
		}
		stored.Passkey = &p
		return nil
	})
	if decreased {
		a.events.Record(ctx, event.PasskeySignCount, named(user), slog.String("authenticator", id), slog.Bool("refused", err != nil))
	}
	return err
}

// PasskeyRefused records that a passkey did not sign a user in. user is nil if it is not known.
func (a *Accounts) PasskeyRefused(ctx context.Context, user *User, cause string, remote netip.Addr) {
	who := slog.Attr{}
	if user != nil {
		who = named(user)
	}
	a.events.Record(ctx, event.SignInFailed, who, slog.String("reason", event.ReasonPasskey), slog.String("cause", cause), event.Address(remote))
}
