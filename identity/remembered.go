package identity

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/storage"
)

// Remembered is what is stored about a user for a while, besides the record, the sessions and the grants. It has
// no secrets.
type Remembered struct {
	// Browsers are those in which the user has signed in, SecondFactors those in which no second factor is asked
	// for, and Networks those from which the user has signed in. Only a hash of each is stored.
	Browsers      []RememberedUntil `json:"browsers"`
	SecondFactors []RememberedUntil `json:"second_factors"`
	Networks      []RememberedUntil `json:"networks"`
	// Changes are those that a link in a message undoes.
	Changes []UndoableChange `json:"changes"`
	// RemovedPasskeys are the passkeys that the user has removed.
	RemovedPasskeys []Passkey `json:"removed_passkeys"`
}

// RememberedUntil says when something is forgotten.
type RememberedUntil struct {
	Until time.Time `json:"until"`
}

// UndoableChange is a change of the address or of a way to sign in.
type UndoableChange struct {
	At    time.Time `json:"at"`
	Until time.Time `json:"until"`
	// FormerEmail is the address before the change. Removed is the kind of a method that was removed, and Name
	// its name, or the provider whose account was unlinked.
	FormerEmail string `json:"former_email,omitempty"`
	Removed     Method `json:"removed,omitempty"`
	Name        string `json:"name,omitempty"`
}

// Remembered returns what is remembered about a user, at most 100 of each kind.
func (a *Accounts) Remembered(ctx context.Context, now time.Time, userID string) (*Remembered, error) {
	r := &Remembered{}
	for kind, to := range map[storage.Kind]*[]RememberedUntil{
		ticketkind.RememberedDevice: &r.Browsers, ticketkind.RememberedFactor: &r.SecondFactors, ticketkind.KnownNetwork: &r.Networks,
	} {
		*to = []RememberedUntil{}
		err := a.eachOf(ctx, now, SessionFamily(userID), kind, func(ticket storage.Ticket) error {
			*to = append(*to, RememberedUntil{ticket.Expires.UTC()})
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	r.Changes, r.RemovedPasskeys = []UndoableChange{}, []Passkey{}
	err := a.eachOf(ctx, now, undoFamily(userID), ticketkind.MailedProof, func(ticket storage.Ticket) error {
		var data proofData
		err := json.Unmarshal(ticket.Data, &data)
		if err != nil || data.Purpose != purposeUndo {
			return err
		}
		change := UndoableChange{At: time.UnixMilli(data.Created).UTC(), Until: ticket.Expires.UTC(), FormerEmail: data.Email}
		if data.Removed != nil {
			change.Removed, change.Name = data.Removed.Kind, data.Removed.Name
		}
		if data.Unlinked != nil {
			change.Removed, change.Name = MethodUpstream, data.Unlinked.Provider
		}
		r.Changes = append(r.Changes, change)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return r, a.eachOf(ctx, now, removedPasskeyFamily(userID), ticketkind.RemovedPasskey, func(ticket storage.Ticket) error {
		var removed removedPasskey
		err := json.Unmarshal(ticket.Data, &removed)
		r.RemovedPasskeys = append(r.RemovedPasskeys, removed.Passkey)
		return err
	})
}

// eachOf calls read with each ticket of a family that is not spent.
func (a *Accounts) eachOf(ctx context.Context, now time.Time, family string, kind storage.Kind, read func(storage.Ticket) error) error {
	tickets, err := a.store.FindFamily(ctx, now, family, kind, maxSessions)
	if err != nil {
		return fmt.Errorf("list what is remembered about a user: %w", err)
	}
	for _, ticket := range tickets {
		if !ticket.Spent.IsZero() {
			continue
		}
		if err := read(ticket); err != nil {
			return fmt.Errorf("decode what is remembered about a user: %w", err)
		}
	}
	return nil
}
