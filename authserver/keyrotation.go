package authserver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

// ErrKeyAlgorithm is returned for an algorithm that this server has no keys for.
var ErrKeyAlgorithm = errors.New("not a supported key algorithm")

// KeyRotation replaces keys ahead of schedule: signing keys, and keys that clients encrypt to.
type KeyRotation struct {
	// Algorithm is the algorithm whose key is replaced; "" means every algorithm that has a key.
	Algorithm string
	// Now lets the new key sign immediately. Everybody with a cached JWKS must then fetch it
	// again when they see the new kid. Otherwise the key is published KeyPublishAhead before it
	// signs.
	Now bool
	// Revoke also deletes the old keys immediately, so that nothing that they signed is valid
	// any longer. It implies Now.
	Revoke bool
	// Lifetimes are the settings of the servers that use the store.
	Lifetimes Lifetimes
}

// RotateKeys adds new keys to a store and returns them. Servers that use the store see them
// within a second.
func RotateKeys(ctx context.Context, store record.Store, now time.Time, rotation KeyRotation) ([]record.Key, error) {
	if rotation.Algorithm != "" && !slices.Contains(keyAlgorithms(), jose.Algorithm(rotation.Algorithm)) {
		return nil, fmt.Errorf("%q: %w: choose one of %v", rotation.Algorithm, ErrKeyAlgorithm, keyAlgorithms())
	}
	rotation.Lifetimes = rotation.Lifetimes.withDefaults()
	current, err := store.Keys(ctx)
	if err != nil {
		return nil, fmt.Errorf("read keys: %w", err)
	}
	var generated keyGenerator
	if _, _, err := rotation.apply(current, now, &generated); err != nil {
		return nil, err
	}
	var added []record.Key
	err = store.UpdateKeys(ctx, func(keys []record.Key) ([]record.Key, error) {
		var err error
		keys, added, err = rotation.apply(keys, now, &generated)
		return keys, err
	})
	if err != nil {
		return nil, fmt.Errorf("rotate keys: %w", err)
	}
	return added, nil
}

// apply returns the keys after the rotation, and the new ones among them.
func (r *KeyRotation) apply(keys []record.Key, now time.Time, generated *keyGenerator) (after, added []record.Key, err error) {
	starts := func(alg jose.Algorithm) time.Time {
		if r.Now || r.Revoke {
			return now
		}
		return now.Add(r.Lifetimes.publishAhead(alg))
	}
	for _, alg := range r.algorithms(keys) {
		private, err := generated.key(alg)
		if err != nil {
			return nil, nil, err
		}
		added = append(added, record.Key{ID: storage.NewID(), Algorithm: alg, Private: private, CreatedAt: now, SignsFrom: starts(alg)})
	}
	for _, key := range keys {
		if r.Revoke && r.Algorithm == "" { // also keys that are being withdrawn
			continue
		}
		if slices.ContainsFunc(added, func(k record.Key) bool { return k.Algorithm == key.Algorithm }) {
			from := starts(key.Algorithm)
			ends := from.Add(r.Lifetimes.keyRetention(key.Algorithm))
			// A key that has not started to sign is not needed: its successor replaces it.
			if r.Revoke || key.SignsFrom.After(from) {
				continue
			}
			if key.PublishedUntil.IsZero() || key.PublishedUntil.After(ends) {
				key.PublishedUntil = ends
			}
		}
		after = append(after, key)
	}
	return append(after, added...), added, nil
}

func (r *KeyRotation) algorithms(keys []record.Key) []jose.Algorithm {
	if r.Algorithm != "" {
		return []jose.Algorithm{jose.Algorithm(r.Algorithm)}
	}
	var used []jose.Algorithm
	for _, alg := range keyAlgorithms() {
		if slices.ContainsFunc(keys, func(k record.Key) bool { return k.Algorithm == alg && k.PublishedUntil.IsZero() }) {
			used = append(used, alg)
		}
	}
	if used == nil {
		used = defaultAlgorithms()
	}
	return used
}

// keyAlgorithmsFor returns the algorithms of the keys that a client needs. A client that receives
// encrypted ID tokens may send one as a hint, encrypted to this server (OpenID Connect Core,
// section 3.1.2.1).
func keyAlgorithmsFor(n record.ClientNeeds) []jose.Algorithm {
	var needed []jose.Algorithm
	for _, name := range [...]string{
		n.IDTokenSignedResponseAlg, n.UserinfoSignedResponseAlg, n.AccessTokenSignedResponseAlg, n.AuthorizationSignedResponseAlg,
		n.IntrospectionSignedResponseAlg, n.IDTokenEncryptedResponseAlg, n.RequestObjectEncryptionAlg,
	} {
		if slices.Contains(keyAlgorithms(), jose.Algorithm(name)) {
			needed = append(needed, jose.Algorithm(name))
		}
	}
	return needed
}

// combinedNeeds combines the needs of all clients.
type combinedNeeds struct {
	algorithms    []jose.Algorithm // of keys
	responseTypes []string
	// unsignedIDTokens and unsignedRequests: the algorithm none is used.
	unsignedIDTokens, unsignedRequests bool
	userCodes                          bool // a client sends user codes (CIBA)
}

// defaultAlgorithms returns the signing algorithms for clients that do not specify one: for ID
// tokens (OpenID Connect Registration, section 2) and for access tokens.
func defaultAlgorithms() []jose.Algorithm { return []jose.Algorithm{jose.RS256, jose.ES256} }

// readClientNeeds reads the needs of all clients from the store.
func (s *Server) readClientNeeds(ctx context.Context) (combinedNeeds, error) {
	clients, err := s.config.Store.ClientNeeds(ctx)
	if err != nil {
		return combinedNeeds{}, fmt.Errorf("read client needs: %w", err)
	}
	var all combinedNeeds
	used := defaultAlgorithms()
	types := []oauth.ResponseType{{Code: true}}
	for _, c := range clients {
		used = append(used, keyAlgorithmsFor(c)...)
		for _, name := range c.ResponseTypes {
			if t, ok := oauth.ParseResponseType(name); ok {
				types = append(types, t)
			}
		}
		all.unsignedIDTokens = all.unsignedIDTokens || c.IDTokenSignedResponseAlg == string(algorithmNone)
		all.userCodes = all.userCodes || c.BackchannelUserCodeParameter
		all.unsignedRequests = all.unsignedRequests || c.RequestObjectSigningAlg == string(algorithmNone)
	}
	for _, alg := range keyAlgorithms() {
		if slices.Contains(used, alg) {
			all.algorithms = append(all.algorithms, alg)
		}
	}
	for _, name := range oauth.ResponseTypes() {
		if t, _ := oauth.ParseResponseType(name); slices.Contains(types, t) {
			all.responseTypes = append(all.responseTypes, name)
		}
	}
	if s.registrationPolicy.on() || s.config.MetadataDocuments.on() { // new clients may need anything
		all.responseTypes, all.unsignedIDTokens, all.unsignedRequests = oauth.ResponseTypes(), true, true
	}
	return all, nil
}

// offeredAlgorithms returns the signing algorithms that a client may register for. Some libraries
// fail on a key set that has an ES512 or Ed25519 key. So these two are offered only if a
// declared client uses them: a client that registers must not break the key set for the others.
func (n combinedNeeds) offeredAlgorithms() []jose.Algorithm {
	return slices.DeleteFunc(signingAlgorithms(), func(alg jose.Algorithm) bool {
		return (alg == jose.ES512 || alg == jose.Ed25519) && !slices.Contains(n.algorithms, alg)
	})
}

// PrepareKeys creates missing keys that clients need, so that they are published before they are
// used, and withdraws keys that no client needs any longer. Call it in the background at start,
// about every hour, and when KeysDue receives.
func (s *Server) PrepareKeys(ctx context.Context) error {
	all, err := s.readClientNeeds(ctx)
	if err != nil {
		return err
	}
	now := time.Now()
	for _, alg := range all.algorithms {
		if err := s.rotateKeys(ctx, now, alg); err != nil {
			return err
		}
	}
	current, err := s.config.Store.Keys(ctx)
	if err != nil {
		return fmt.Errorf("read keys: %w", err)
	}
	if _, changed := s.withdrawKeys(current, now, all.algorithms); !changed {
		return nil
	}
	err = s.config.Store.UpdateKeys(ctx, func(keys []record.Key) ([]record.Key, error) {
		next, _ := s.withdrawKeys(keys, now, all.algorithms)
		return next, nil
	})
	if err != nil {
		return fmt.Errorf("withdraw keys: %w", err)
	}
	s.forget()
	return nil
}

// withdrawKeys sets when keys of unneeded algorithms are removed: once everything that they
// signed has expired. nextKeys keeps a key that is needed again before that.
func (s *Server) withdrawKeys(keys []record.Key, now time.Time, needed []jose.Algorithm) (next []record.Key, changed bool) {
	for _, key := range keys {
		if key.PublishedUntil.IsZero() && !slices.Contains(needed, key.Algorithm) {
			key.PublishedUntil = now.Add(s.lifetimes.keyRetention(key.Algorithm))
			changed = true
		}
		next = append(next, key)
	}
	return next, changed
}

// KeysDue returns a channel that receives when a client needs a key that does not exist, for
// example a client that was just declared on another node.
func (s *Server) KeysDue() <-chan struct{} { return s.keysDue }

func (s *Server) noteKeysDue(c *catalogue) {
	for _, alg := range c.clientNeeds.algorithms {
		if !c.keys.has(alg) {
			select {
			case s.keysDue <- struct{}{}:
			default:
			}
			return
		}
	}
}

// prepareKeysFor creates the missing keys that one client needs.
func (s *Server) prepareKeysFor(ctx context.Context, client *record.Client, now time.Time) error {
	catalogue, err := s.catalogue(ctx)
	if err != nil {
		return err
	}
	for _, alg := range keyAlgorithmsFor(client.Needs()) {
		if catalogue.keys.has(alg) {
			continue
		}
		if err := s.rotateKeys(ctx, now, alg); err != nil {
			return err
		}
	}
	return nil
}
