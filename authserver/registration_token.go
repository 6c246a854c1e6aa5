package authserver

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/valetkey/valetkey/storage"
)

// The prefixes of the tokens of registration.
const (
	prefixRegistrationToken = "vk_ra_"
	prefixInitialToken      = "vk_ia_"
)

// kindInitialToken is an initial access token; its uses are tickets of kindInitialTokenUse.
const (
	kindInitialToken    storage.Kind = "initial"
	kindInitialTokenUse storage.Kind = "initial-use"
)

// MaxInitialAccessTokenUses is how often one initial access token can be good for.
const MaxInitialAccessTokenUses = 1000

type initialToken struct {
	Uses int `json:"u"`
}

// NewInitialAccessToken makes a token by which that many clients can be registered within
// its life (RFC 7591, section 3), and stores its hash.
func NewInitialAccessToken(ctx context.Context, store Store, now time.Time, uses int, life time.Duration) (string, error) {
	if uses < 1 || uses > MaxInitialAccessTokenUses || life <= 0 {
		return "", fmt.Errorf("an initial access token has 1 to %d uses and a life", MaxInitialAccessTokenUses)
	}
	data, err := json.Marshal(initialToken{uses})
	if err != nil {
		return "", fmt.Errorf("encode initial access token: %w", err)
	}
	token := newSecret(prefixInitialToken, now)
	ticket := storage.Ticket{Key: secretKey(kindInitialToken, prefixInitialToken, token), Data: data, Expires: now.Add(life)}
	if err := store.Put(ctx, now, ticket); err != nil {
		return "", fmt.Errorf("store initial access token: %w", err)
	}
	return token, nil
}

func (c *call) checkInitialAccessToken() error {
	token, err := c.bearerToken()
	if err != nil || !isSecret(prefixInitialToken, token) {
		return c.refuse(&ruleInitialAccessToken, "it is missing, or has not the form of one")
	}
	_, err = c.s.config.Store.Get(c.r.Context(), c.now, secretKey(kindInitialToken, prefixInitialToken, token))
	if errors.Is(err, storage.ErrNotFound) {
		return c.refuse(&ruleInitialAccessToken, "it is not in the database: expired, or never made")
	}
	if err != nil {
		return fmt.Errorf("look up initial access token: %w", err)
	}
	return c.must(true, &ruleInitialAccessToken)
}

// spendInitialAccessToken takes one of its uses. Each is a ticket that can be stored once,
// so that callers who race share no use.
func (c *call) spendInitialAccessToken() error {
	if c.s.registrations.Mode != RegistrationInitialAccessToken {
		return nil
	}
	ctx := c.r.Context()
	token, err := c.bearerToken()
	if err != nil {
		return err
	}
	ticket, err := c.s.config.Store.Get(ctx, c.now, secretKey(kindInitialToken, prefixInitialToken, token))
	if errors.Is(err, storage.ErrNotFound) {
		return c.refuse(&ruleInitialAccessToken, "it expired meanwhile")
	}
	if err != nil {
		return fmt.Errorf("look up initial access token: %w", err)
	}
	var stored initialToken
	if err := json.Unmarshal(ticket.Data, &stored); err != nil {
		return fmt.Errorf("read initial access token: %w", err)
	}
	for i := range stored.Uses {
		use := storage.Ticket{Key: kindInitialTokenUse.Hash(token + " " + strconv.Itoa(i)), Expires: ticket.Expires}
		err := c.s.config.Store.Put(ctx, c.now, use)
		if err == nil {
			return nil
		}
		if !errors.Is(err, storage.ErrExists) {
			return fmt.Errorf("use initial access token: %w", err)
		}
	}
	return c.refuse(&ruleInitialAccessToken, "it is used up: "+strconv.Itoa(stored.Uses)+" uses")
}

// newClientSecret returns 256 random bits.
func newClientSecret() string {
	var b [32]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}
