package authserver

import (
	"context"
	"crypto"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

// signingAlgorithms are those that tokens can be signed with, the defaults first. The key set
// is in this order.
func signingAlgorithms() []jose.Algorithm {
	return []jose.Algorithm{
		jose.RS256, jose.ES256, jose.PS256, jose.ES384, jose.ES512, jose.RS384, jose.RS512, jose.PS384, jose.PS512,
		jose.EdDSA, jose.Ed25519,
	}
}

// decryptionAlgorithms are those of the keys that clients encrypt to.
func decryptionAlgorithms() []jose.Algorithm { return jose.PublicKeyEncryptionAlgorithms() }

func decrypts(alg jose.Algorithm) bool { return slices.Contains(decryptionAlgorithms(), alg) }

func keyAlgorithms() []jose.Algorithm { return append(signingAlgorithms(), decryptionAlgorithms()...) }

// keyRing is the keys as of one version of the store.
type keyRing struct {
	keys       []record.Key   // oldest SignsFrom first
	signers    []*jose.Signer // nil for a key to encrypt to
	published  []jose.JWK
	public     *jose.KeySet // those that verify
	decrypters []*jose.Decrypter
}

func newKeyRing(keys []record.Key) (keyRing, error) {
	slices.SortFunc(keys, func(a, b record.Key) int { return a.SignsFrom.Compare(b.SignsFrom) })
	ring := keyRing{keys: keys, public: &jose.KeySet{}}
	for _, key := range keys {
		if key.Decrypts() {
			decrypter, err := jose.NewDecrypter(key.ID, key.Private)
			if err != nil {
				return ring, fmt.Errorf("use key %s: %w", key.ID, err)
			}
			ring.signers = append(ring.signers, nil)
			ring.published = append(ring.published, decrypter.Public().WithAlgorithm(key.Algorithm))
			ring.decrypters = append(ring.decrypters, decrypter)
			continue
		}
		signer, err := jose.NewSigner(key.Algorithm, key.ID, key.Private)
		if err != nil {
			return ring, fmt.Errorf("use signing key %s: %w", key.ID, err)
		}
		ring.signers = append(ring.signers, signer)
		ring.published = append(ring.published, signer.Public())
		ring.public.Keys = append(ring.public.Keys, signer.Public())
	}
	return ring, nil
}

// hasAll reports whether every key of another ring is in this one.
func (k keyRing) hasAll(other keyRing) bool {
	for _, key := range other.keys {
		if !slices.ContainsFunc(k.keys, func(mine record.Key) bool { return mine.ID == key.ID }) {
			return false
		}
	}
	return true
}

// has reports whether there is a key of an algorithm that is not being withdrawn.
func (k keyRing) has(alg jose.Algorithm) bool {
	return slices.ContainsFunc(k.keys, func(key record.Key) bool { return key.Algorithm == alg && key.PublishedUntil.IsZero() })
}

// publish returns the JWKS document: the keys of the default algorithms first, because some
// readers take the first, and of each algorithm the one that signs now before the others.
func (k keyRing) publish(now time.Time) (*document, error) {
	published := jose.KeySet{Keys: []jose.JWK{}}
	for _, alg := range keyAlgorithms() {
		first := len(published.Keys)
		for i, key := range k.keys {
			switch {
			case key.Algorithm != alg || !key.PublishedUntil.IsZero() && expired(now, key.PublishedUntil):
			case decrypts(alg) && !key.PublishedUntil.IsZero():
				// Who sees the newest key to encrypt to has no use for those before it: they only
				// open what is on its way.
			case key.SignsFrom.After(now):
				published.Keys = append(published.Keys, k.published[i])
			default: // the newest that signs comes first
				published.Keys = slices.Insert(published.Keys, first, k.published[i])
			}
		}
	}
	body, err := json.Marshal(published)
	if err != nil {
		return nil, fmt.Errorf("encode JWKS: %w", err)
	}
	return newDocument("application/jwk-set+json", jwksMaxAge, body), nil
}

// signer returns the newest key of an algorithm that signs by now, or nil. A key that is being
// withdrawn, without a successor, does not sign.
func (k keyRing) signer(alg jose.Algorithm, now time.Time) *jose.Signer {
	if !k.has(alg) {
		return nil
	}
	for i := len(k.keys) - 1; i >= 0; i-- {
		key := &k.keys[i]
		if key.Algorithm == alg && !now.Before(key.SignsFrom) && (key.PublishedUntil.IsZero() || now.Before(key.PublishedUntil)) {
			return k.signers[i]
		}
	}
	return nil
}

// signer returns the key that signs with an algorithm, and makes one if this is the
// algorithm's first use.
func (s *Server) signer(ctx context.Context, catalogue *catalogue, alg jose.Algorithm, now time.Time) (*jose.Signer, error) {
	if alg == "" {
		alg = jose.ES256
	}
	if signer := catalogue.keys.signer(alg, now); signer != nil {
		return signer, nil
	}
	if !slices.Contains(signingAlgorithms(), alg) {
		return nil, fmt.Errorf("sign with %q: not a signing algorithm of this server", alg)
	}
	if err := s.rotateKeys(ctx, now, alg); err != nil {
		return nil, err
	}
	s.forget() // another node may have made the key a moment ago
	catalogue, err := s.catalogue(ctx)
	if err != nil {
		return nil, err
	}
	if signer := catalogue.keys.signer(alg, now); signer != nil {
		return signer, nil
	}
	return nil, fmt.Errorf("sign with %s: the store kept no key", alg)
}

// signer is Server.signer with the catalogue of this request.
func (c *call) signer(alg jose.Algorithm) (*jose.Signer, error) {
	catalogue, err := c.catalogue()
	if err != nil {
		return nil, err
	}
	return c.s.signer(c.r.Context(), catalogue, alg, c.now)
}

// RotateKeys does what the lives of the signing keys ask for by now: it makes a key for
// ES256 if there is none, publishes successors ahead of their time, sets when a
// predecessor may be forgotten, and forgets. Call it at start and every hour or so, on
// any number of nodes.
func (s *Server) RotateKeys(ctx context.Context) error {
	return s.rotateKeys(ctx, time.Now(), jose.ES256)
}

func (s *Server) rotateKeys(ctx context.Context, now time.Time, needed jose.Algorithm) error {
	// RSA keys take long to make: one at a time, and nobody makes what another just did.
	s.rotating.Lock()
	defer s.rotating.Unlock()
	current, err := s.config.Store.Keys(ctx)
	if err != nil {
		return fmt.Errorf("read keys: %w", err)
	}
	var made keyMaker
	if _, changed, err := s.nextKeys(current, now, needed, &made); err != nil || !changed {
		return err
	}
	var added []record.Key
	err = s.config.Store.UpdateKeys(ctx, func(keys []record.Key) ([]record.Key, error) {
		next, _, err := s.nextKeys(keys, now, needed, &made)
		added = slices.DeleteFunc(slices.Clone(next), func(k record.Key) bool {
			return slices.ContainsFunc(keys, func(had record.Key) bool { return had.ID == k.ID })
		})
		return next, err
	})
	if err != nil {
		return fmt.Errorf("rotate keys: %w", err)
	}
	for _, key := range added {
		s.events.Record(ctx, event.SigningKeyCreated, slog.String("kid", key.ID), slog.String("alg", string(key.Algorithm)))
	}
	s.forget()
	return nil
}

// keyMaker makes one key for each algorithm and returns it again: what is decided before a
// store's transaction is decided once more inside it, and there an RSA key would keep every
// other writer waiting.
type keyMaker map[jose.Algorithm]crypto.Signer

func (m *keyMaker) key(alg jose.Algorithm) (crypto.Signer, error) {
	if private, ok := (*m)[alg]; ok {
		return private, nil
	}
	private, err := jose.GenerateKey(alg)
	if err != nil {
		return nil, fmt.Errorf("make a key for %s: %w", alg, err)
	}
	if *m == nil {
		*m = keyMaker{}
	}
	(*m)[alg] = private
	return private, nil
}

// nextKeys is the life of keys as a function of what there is and the time. A key signs
// from SignsFrom for KeyRotation; its successor is published KeyPublishAhead earlier, so
// that whoever keeps the JWKS for its max-age knows it in time (OpenID Connect Core,
// section 10.1.1); it stays published until what it signed has expired.
func (s *Server) nextKeys(keys []record.Key, now time.Time, needed jose.Algorithm, made *keyMaker) (next []record.Key, changed bool, err error) {
	newest := make(map[jose.Algorithm]*record.Key)
	for _, key := range keys {
		if !key.PublishedUntil.IsZero() && expired(now, key.PublishedUntil) {
			changed = true
			continue
		}
		next = append(next, key)
	}
	for i := range next {
		if last := newest[next[i].Algorithm]; last == nil || last.SignsFrom.Before(next[i].SignsFrom) {
			newest[next[i].Algorithm] = &next[i]
		}
	}
	var added []record.Key
	for _, alg := range keyAlgorithms() {
		last, ahead := newest[alg], s.lifetimes.publishAhead(alg)
		var from time.Time
		switch {
		case last == nil && alg == needed:
			// At once, also by the clock of a node that is behind: nobody can have kept a
			// JWKS that a token of this algorithm needs.
			from = now.Add(-clockSkew)
		case last == nil:
			continue
		case !last.PublishedUntil.IsZero():
			// It was being withdrawn, and goes on if a client needs it again.
			if alg == needed {
				last.PublishedUntil, changed = time.Time{}, true
			}
			continue
		case !last.SignsFrom.After(now) && expired(now, last.SignsFrom.Add(s.lifetimes.KeyRotation-ahead)):
			from = now.Add(ahead)
		default:
			continue
		}
		private, err := made.key(alg)
		if err != nil {
			return nil, false, err
		}
		added = append(added, record.Key{ID: storage.NewID(), Algorithm: alg, Private: private, CreatedAt: now, SignsFrom: from})
		changed = true
		if last != nil {
			last.PublishedUntil = from.Add(s.lifetimes.afterlife(alg))
		}
	}
	return append(next, added...), changed, nil
}

// publishAhead is how long a key is published before it takes over. Nobody waits for one to
// encrypt to.
func (l Lifetimes) publishAhead(alg jose.Algorithm) time.Duration {
	if decrypts(alg) {
		return 0
	}
	return l.KeyPublishAhead
}

// afterlife is how long a key is kept after another took over from it. For one that
// decrypts it allows for those who keep our JWKS longer than they should (OpenID Connect
// Core, section 10.2.1).
func (l Lifetimes) afterlife(alg jose.Algorithm) time.Duration {
	if decrypts(alg) {
		return max(decryptionKeyAfterlife, l.longestSigned())
	}
	return l.longestSigned()
}

// longestSigned is how long a signature must stay verifiable: the longest life of what
// is signed, a catalogue's age on a node that has not heard yet, and skew.
func (l Lifetimes) longestSigned() time.Duration {
	return max(l.AccessToken, l.IDToken, record.MaxOwnLifetime) + catalogueMaxStale + time.Minute
}

func (c *call) jwks() error {
	catalogue, err := c.s.catalogue(c.r.Context())
	if err != nil {
		// A JWKS that is too old to issue by is still right to verify by.
		if catalogue = c.s.catalogueNow.Load(); catalogue == nil {
			return err
		}
	}
	// Nobody shall keep a key set from before the first keys were made.
	for _, alg := range defaultAlgorithms() {
		if catalogue.keys.has(alg) {
			continue
		}
		if _, err := c.s.signer(c.r.Context(), catalogue, alg, c.now); err != nil {
			return err
		}
		if catalogue, err = c.s.catalogue(c.r.Context()); err != nil {
			return err
		}
	}
	catalogue.jwks.write(c.w)
	return nil
}

// deriveKey returns 32 bytes for one purpose (RFC 5869).
func deriveKey(secret []byte, purpose string) ([]byte, error) {
	key, err := hkdf.Key(sha256.New, secret, nil, purpose, 32)
	if err != nil {
		return nil, fmt.Errorf("derive key: %w", err)
	}
	return key, nil
}
