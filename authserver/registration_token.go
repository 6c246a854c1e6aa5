package authserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/storage"
)

// The prefixes of what registration gives out.
const (
	prefixRegistrationToken = "vk_ra_"
	prefixInitialToken      = "vk_ia_"
	// As long as it is, a client secret has the 64 bytes that HS512 asks for (RFC 7518,
	// section 3.2).
	prefixClientSecret = "vk_secret_"
)

// An initial access token (RFC 7591, section 3) is a ticket that says what it is for, and
// one more ticket for each registration that it is good for.
const (
	// familyInitialTokens holds the tickets of the first kind, so that they can be listed.
	familyInitialTokens = "initial access tokens"

	// MaxInitialAccessTokenUses is how many registrations one token can be good for.
	MaxInitialAccessTokenUses = 1000
	// maxInitialTokens is how many of them are looked through.
	maxInitialTokens = 1000
)

// InitialAccessToken lets its bearer register clients.
type InitialAccessToken struct {
	// ID names the token; it is no secret.
	ID string `json:"id"`
	// Note is the operator's, to know the token again.
	Note      string    `json:"note,omitempty"`
	Uses      int       `json:"uses"`
	Left      int       `json:"left"`
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at"`
}

func (t *InitialAccessToken) family() string { return "initial access token " + t.ID }

// NewInitialAccessToken stores a new token with the Note, Uses and ExpiresAt of t, and
// returns the secret, which is not stored.
func NewInitialAccessToken(ctx context.Context, store storage.Tickets, now time.Time, t InitialAccessToken) (string, error) {
	if t.Uses < 1 || t.Uses > MaxInitialAccessTokenUses {
		return "", fmt.Errorf("an initial access token is good for 1 to %d registrations", MaxInitialAccessTokenUses)
	}
	if !t.ExpiresAt.After(now) {
		return "", errors.New("an initial access token expires in the future")
	}
	secret := newSecret(prefixInitialToken, now)
	t.ID, t.Left, t.CreatedAt = newReference(), 0, now.UTC().Truncate(time.Millisecond)
	data, err := json.Marshal(t)
	if err != nil {
		return "", fmt.Errorf("encode initial access token: %w", err)
	}
	tickets := []storage.Ticket{{Key: ticketkind.InitialAccessToken.Hash(secret), Family: familyInitialTokens, Data: data, Expires: t.ExpiresAt}}
	for range t.Uses {
		tickets = append(tickets, storage.Ticket{Key: ticketkind.InitialAccessTokenUse.Hash(storage.NewID()), Family: t.family(), Expires: t.ExpiresAt})
	}
	if err := store.Put(ctx, now, tickets...); err != nil {
		return "", fmt.Errorf("store initial access token: %w", err)
	}
	return secret, nil
}

// InitialAccessTokens lists the tokens that have not expired, at most a thousand.
func InitialAccessTokens(ctx context.Context, store storage.Tickets, now time.Time) ([]InitialAccessToken, error) {
	tickets, err := store.FindFamily(ctx, now, familyInitialTokens, ticketkind.InitialAccessToken, maxInitialTokens)
	if err != nil {
		return nil, fmt.Errorf("list initial access tokens: %w", err)
	}
	var tokens []InitialAccessToken
	for _, ticket := range tickets {
		t, err := readInitialToken(ticket)
		if err != nil {
			return nil, err
		}
		uses, err := t.unspent(ctx, store, now)
		if err != nil {
			return nil, err
		}
		t.Left = len(uses)
		tokens = append(tokens, *t)
	}
	return tokens, nil
}

// RevokeInitialAccessToken ends a token by its ID; storage.ErrNotFound if there is none.
func RevokeInitialAccessToken(ctx context.Context, store storage.Tickets, now time.Time, id string) error {
	tickets, err := store.FindFamily(ctx, now, familyInitialTokens, ticketkind.InitialAccessToken, maxInitialTokens)
	if err != nil {
		return fmt.Errorf("find initial access token: %w", err)
	}
	for _, ticket := range tickets {
		t, err := readInitialToken(ticket)
		if err != nil {
			return err
		}
		if t.ID != id {
			continue
		}
		if err := store.DeleteFamily(ctx, t.family(), ticketkind.InitialAccessTokenUse); err != nil {
			return fmt.Errorf("revoke initial access token: %w", err)
		}
		if err := store.Delete(ctx, ticket.Key); err != nil {
			return fmt.Errorf("revoke initial access token: %w", err)
		}
		return nil
	}
	return storage.ErrNotFound
}

func readInitialToken(ticket storage.Ticket) (*InitialAccessToken, error) {
	var t InitialAccessToken
	if err := json.Unmarshal(ticket.Data, &t); err != nil {
		return nil, fmt.Errorf("read initial access token: %w", err)
	}
	return &t, nil
}

func (t *InitialAccessToken) unspent(ctx context.Context, store storage.Tickets, now time.Time) (keys []storage.Key, err error) {
	uses, err := store.FindFamily(ctx, now, t.family(), ticketkind.InitialAccessTokenUse, MaxInitialAccessTokenUses)
	if err != nil {
		return nil, fmt.Errorf("read initial access token: %w", err)
	}
	for _, use := range uses {
		if use.Spent.IsZero() {
			keys = append(keys, use.Key)
		}
	}
	return keys, nil
}

// initialAccess finds the initial access token of a registration, which one that is open
// need not have; nil if there is none.
func (c *call) initialAccess() (*InitialAccessToken, error) {
	if c.s.registrationPolicy.Mode == RegistrationOpen && len(c.r.Header["Authorization"]) == 0 {
		return nil, nil
	}
	secret, err := c.bearerToken()
	if err != nil || !isSecret(prefixInitialToken, secret) {
		return nil, c.refuse(&ruleInitialAccessToken, "it is missing, or has not the form of one")
	}
	ticket, err := c.s.config.Store.Get(c.r.Context(), c.now, ticketkind.InitialAccessToken.Hash(secret))
	if errors.Is(err, storage.ErrNotFound) {
		return nil, c.refuse(&ruleInitialAccessToken, "it is not in the database: expired, revoked, or never made")
	}
	if err != nil {
		return nil, fmt.Errorf("look up initial access token: %w", err)
	}
	return readInitialToken(ticket)
}

// spendInitialAccess uses up one registration. It comes last, so that a mistake in the
// metadata costs nothing.
func (c *call) spendInitialAccess(t *InitialAccessToken) error {
	if t == nil {
		return nil
	}
	for {
		uses, err := t.unspent(c.r.Context(), c.s.config.Store, c.now)
		if err != nil {
			return err
		}
		if len(uses) == 0 {
			return c.refuse(&ruleInitialAccessToken, "it is used up: "+t.ID)
		}
		// Any of them, so that those who come at once seldom meet.
		err = c.s.config.Store.Spend(c.r.Context(), c.now, []storage.Key{uses[rand.IntN(len(uses))]})
		if errors.Is(err, storage.ErrSpent) || errors.Is(err, storage.ErrNotFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("spend initial access token: %w", err)
		}
		return c.must(true, &ruleInitialAccessToken)
	}
}
