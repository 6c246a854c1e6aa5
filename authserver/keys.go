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

// signingAlgorithms returns the algorithms for signing tokens, the defaults first. The key set
// has this order.
func signingAlgorithms() []jose.Algorithm {
	return []jose.Algorithm{
		jose.RS256, jose.ES256, jose.PS256, jose.ES384, jose.ES512, jose.RS384, jose.RS512, jose.PS384, jose.PS512,
		jose.EdDSA, jose.Ed25519,
	}
}

// decryptionAlgorithms returns the algorithms of keys that clients encrypt to.
func decryptionAlgorithms() []jose.Algorithm { return jose.PublicKeyEncryptionAlgorithms() }

func decrypts(alg jose.Algorithm) bool { return slices.Contains(decryptionAlgorithms(), alg) }

func keyAlgorithms() []jose.Algorithm { return append(signingAlgorithms(), decryptionAlgorithms()...) }

// keyRing has the keys of one version of the store.
type keyRing struct {
	keys       []record.Key   // stored ones first, then by SignsFrom
	signers    []*jose.Signer // by index in keys; nil for an encryption key
	published  []jose.JWK     // by index in keys
	public     *jose.KeySet   // keys that verify
	decrypters []*jose.Decrypter
}

func newKeyRing(keys []record.Key) (keyRing, error) {
	slices.SortFunc(keys, func(a, b record.Key) int {
		if isExternal(&a) != isExternal(&b) { // an external key that signs comes before stored ones
			if isExternal(&a) {
				return 1
			}
			return -1
		}
		return a.SignsFrom.Compare(b.SignsFrom)
	})
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
		if !slices.ContainsFunc(k.keys, func(own record.Key) bool { return own.ID == key.ID }) {
			return false
		}
	}
	return true
}

// has reports whether an algorithm has a key that is not being withdrawn.
func (k keyRing) has(alg jose.Algorithm) bool {
	return slices.ContainsFunc(k.keys, func(key record.Key) bool { return key.Algorithm == alg && key.PublishedUntil.IsZero() })
}

// publish returns the JWKS document. The keys of the default algorithms come first, because some
// libraries use the first key. For each algorithm, the key that signs now comes first.
func (k keyRing) publish(now time.Time) (*document, error) {
	published := jose.KeySet{Keys: []jose.JWK{}}
	for _, alg := range keyAlgorithms() {
		first := len(published.Keys)
		for i, key := range k.keys {
			switch {
			case key.Algorithm != alg || !key.PublishedUntil.IsZero() && expired(now, key.PublishedUntil):
			case decrypts(alg) && !key.PublishedUntil.IsZero():
				// Clients encrypt to the newest key. Older keys only decrypt messages that were
				// encrypted before, so nobody needs their public part.
			case key.SignsFrom.After(now):
				published.Keys = append(published.Keys, k.published[i])
			default: // keys are sorted by SignsFrom: the newest that signs ends up first
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

// signer returns the newest key of an algorithm that can sign now, or nil. If all keys of the
// algorithm are being withdrawn, none of them signs.
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

// signer returns the signing key of an algorithm. It creates one at the first use of the
// algorithm.
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
	s.forget() // another node may have just created the key
	catalogue, err := s.catalogue(ctx)
	if err != nil {
		return nil, err
	}
	if signer := catalogue.keys.signer(alg, now); signer != nil {
		return signer, nil
	}
	return nil, fmt.Errorf("sign with %s: the store does not have the new key", alg)
}

// signWith signs a payload, and measures how long that takes.
func (s *Server) signWith(ctx context.Context, signer *jose.Signer, typ string, payload []byte) (string, error) {
	t := s.events.Telemetry()
	if t == nil {
		return signer.SignContext(ctx, typ, payload)
	}
	began := time.Now()
	token, err := signer.SignContext(ctx, typ, payload)
	if err != nil {
		t.SignatureFailed(string(signer.Algorithm()))
	} else {
		t.Signed(string(signer.Algorithm()), began)
	}
	return token, err
}

// signer is like Server.signer, with the catalogue of this request.
func (c *call) signer(alg jose.Algorithm) (*jose.Signer, error) {
	catalogue, err := c.catalogue()
	if err != nil {
		return nil, err
	}
	return c.s.signer(c.r.Context(), catalogue, alg, c.now)
}

// RotateKeys performs the due steps of key rotation: it creates a key for ES256 if there is none,
// publishes successors before they sign, sets when replaced keys are removed, and removes them.
// Call it at start and about every hour, on any number of nodes.
func (s *Server) RotateKeys(ctx context.Context) error {
	return s.rotateKeys(ctx, time.Now(), jose.ES256)
}

func (s *Server) rotateKeys(ctx context.Context, now time.Time, needed jose.Algorithm) error {
	// RSA keys take long to generate, so only one caller does it at a time. The next one finds
	// the new key.
	s.rotating.Lock()
	defer s.rotating.Unlock()
	current, err := s.config.Store.Keys(ctx)
	if err != nil {
		return fmt.Errorf("read keys: %w", err)
	}
	var generated keyGenerator
	if _, changed, err := s.nextKeys(current, now, needed, &generated); err != nil || !changed {
		return err
	}
	var added []record.Key
	err = s.config.Store.UpdateKeys(ctx, func(keys []record.Key) ([]record.Key, error) {
		next, _, err := s.nextKeys(keys, now, needed, &generated)
		added = slices.DeleteFunc(slices.Clone(next), func(k record.Key) bool {
			return slices.ContainsFunc(keys, func(old record.Key) bool { return old.ID == k.ID })
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

// keyGenerator generates one key for each algorithm, and returns the same key again. Callers
// compute the next keys before the store's transaction and again inside it. Generating an RSA key
// inside it would block all other writers.
type keyGenerator map[jose.Algorithm]crypto.Signer

func (g *keyGenerator) key(alg jose.Algorithm) (crypto.Signer, error) {
	if private, ok := (*g)[alg]; ok {
		return private, nil
	}
	private, err := jose.GenerateKey(alg)
	if err != nil {
		return nil, fmt.Errorf("generate a key for %s: %w", alg, err)
	}
	if *g == nil {
		*g = keyGenerator{}
	}
	(*g)[alg] = private
	return private, nil
}

// nextKeys returns the keys after the due steps of key rotation. A key signs from SignsFrom for
// KeyRotation. Its successor is published KeyPublishAhead earlier, so that everyone who caches
// the JWKS for its max-age has the new key in time (OpenID Connect Core, section 10.1.1). A
// replaced key stays published until everything that it signed has expired.
func (s *Server) nextKeys(keys []record.Key, now time.Time, needed jose.Algorithm, generated *keyGenerator) (next []record.Key, changed bool, err error) {
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
		case s.externalSigns(alg, now):
			// A stored key does not sign anymore.
			if last != nil && last.PublishedUntil.IsZero() {
				last.PublishedUntil, changed = now.Add(s.lifetimes.keyRetention(alg)), true
			}
			continue
		case last == nil && alg == needed:
			// The first key signs immediately, also on nodes whose clock is behind. Nobody has
			// verified a token of this algorithm before, so nobody depends on a cached JWKS.
			from = now.Add(-clockSkew)
		case last == nil:
			continue
		case !last.PublishedUntil.IsZero():
			// The key is being withdrawn. Keep it if a client needs it again.
			if alg == needed {
				last.PublishedUntil, changed = time.Time{}, true
			}
			continue
		case !last.SignsFrom.After(now) && expired(now, last.SignsFrom.Add(s.lifetimes.KeyRotation-ahead)):
			from = now.Add(ahead)
		default:
			continue
		}
		private, err := generated.key(alg)
		if err != nil {
			return nil, false, err
		}
		added = append(added, record.Key{ID: storage.NewID(), Algorithm: alg, Private: private, CreatedAt: now, SignsFrom: from})
		changed = true
		if last != nil {
			last.PublishedUntil = from.Add(s.lifetimes.keyRetention(alg))
		}
	}
	return append(next, added...), changed, nil
}

// publishAhead returns how long a key is published before it is used. An encryption key can be
// used immediately.
func (l Lifetimes) publishAhead(alg jose.Algorithm) time.Duration {
	if decrypts(alg) {
		return 0
	}
	return l.KeyPublishAhead
}

// keyRetention returns how long a key is kept after it was replaced. A decryption key is kept
// longer for clients that cache the JWKS longer than they should (OpenID Connect Core, section
// 10.2.1).
func (l Lifetimes) keyRetention(alg jose.Algorithm) time.Duration {
	if decrypts(alg) {
		return max(decryptionKeyRetention, l.signatureLifetime())
	}
	return l.signatureLifetime()
}

// signatureLifetime returns how long a signature must stay verifiable: the longest lifetime of a
// signed token, plus the time that another node may still sign with its old catalogue, plus
// clock skew.
func (l Lifetimes) signatureLifetime() time.Duration {
	return max(l.AccessToken, l.IDToken, record.MaxOwnLifetime) + catalogueMaxStale + time.Minute
}

func (c *call) jwks() error {
	catalogue, err := c.s.catalogue(c.r.Context())
	if err != nil {
		// A catalogue that is too old for issuing tokens is still good for verifying them.
		if catalogue = c.s.catalogueNow.Load(); catalogue == nil {
			return err
		}
	}
	// Nobody must cache a key set without the first keys.
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

// deriveKey derives a 32-byte key for one purpose (RFC 5869).
func deriveKey(secret []byte, purpose string) ([]byte, error) {
	key, err := hkdf.Key(sha256.New, secret, nil, purpose, 32)
	if err != nil {
		return nil, fmt.Errorf("derive key: %w", err)
	}
	return key, nil
}
