package authserver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

// ErrKeyAlgorithm says that this server has no keys for an algorithm.
var ErrKeyAlgorithm = errors.New("not an algorithm of this server's keys")

// KeyRotation is an operator's wish for new keys before their time: to sign with, and for
// clients to encrypt to.
type KeyRotation struct {
	// Algorithm is the one whose key is replaced; "" means every algorithm that has a key.
	Algorithm string
	// Now has the new key sign at once. Whoever keeps the JWKS must then fetch it again when
	// it meets the new kid. Otherwise the key is published KeyPublishAhead before it signs.
	Now bool
	// Revoke also forgets the old keys at once, so that nothing that they signed is good
	// any more. It implies Now.
	Revoke bool
	// Lifetimes are those that the servers of the store work by.
	Lifetimes Lifetimes
}

// RotateKeys puts new keys into a store and returns them. Servers that run on the
// store see them within a second.
func RotateKeys(ctx context.Context, store record.Store, now time.Time, rotation KeyRotation) ([]record.Key, error) {
	if rotation.Algorithm != "" && !slices.Contains(keyAlgorithms(), jose.Algorithm(rotation.Algorithm)) {
		return nil, fmt.Errorf("%q: %w: choose one of %v", rotation.Algorithm, ErrKeyAlgorithm, keyAlgorithms())
	}
	rotation.Lifetimes = rotation.Lifetimes.withDefaults()
	current, err := store.Keys(ctx)
	if err != nil {
		return nil, fmt.Errorf("read keys: %w", err)
	}
	var made keyMaker
	if _, _, err := rotation.apply(current, now, &made); err != nil {
		return nil, err
	}
	var added []record.Key
	err = store.UpdateKeys(ctx, func(keys []record.Key) ([]record.Key, error) {
		var err error
		keys, added, err = rotation.apply(keys, now, &made)
		return keys, err
	})
	if err != nil {
		return nil, fmt.Errorf("rotate keys: %w", err)
	}
	return added, nil
}

// apply returns the keys as they are after the rotation, and those of them that are new.
func (r *KeyRotation) apply(keys []record.Key, now time.Time, made *keyMaker) (after, added []record.Key, err error) {
	starts := func(alg jose.Algorithm) time.Time {
		if r.Now || r.Revoke {
			return now
		}
		return now.Add(r.Lifetimes.publishAhead(alg))
	}
	for _, alg := range r.algorithms(keys) {
		private, err := made.key(alg)
		if err != nil {
			return nil, nil, err
		}
		added = append(added, record.Key{ID: storage.NewID(), Algorithm: alg, Private: private, CreatedAt: now, SignsFrom: starts(alg)})
	}
	for _, key := range keys {
		if r.Revoke && r.Algorithm == "" { // those that are being withdrawn, too
			continue
		}
		if slices.ContainsFunc(added, func(k record.Key) bool { return k.Algorithm == key.Algorithm }) {
			from := starts(key.Algorithm)
			ends := from.Add(r.Lifetimes.afterlife(key.Algorithm))
			// One that would only sign later has signed nothing, and its successor is here.
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
