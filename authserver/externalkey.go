package authserver

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage/record"
)

// ExternalKey is a signing key whose private part is elsewhere, for example in an HSM (PKCS #11) or a
// key management service. The server stores nothing of it.
//
// It is published in the key set from the start of the server until PublishedUntil, and signs from
// SignsFrom until another external key of its algorithm does. To replace a key, start all servers with
// both keys first, the new one with a SignsFrom that is at least an hour later, so that everyone who
// verifies tokens has it in time. Remove the old one when everything that it signed has expired.
//
// While an external key of an algorithm signs, the server signs with no key of its own of that
// algorithm, and creates none. If the signer fails, requests that need a signature fail.
type ExternalKey struct {
	// ID is the kid. It is that of this key alone, for ever.
	ID        string
	Algorithm jose.Algorithm
	// Signer signs, in any number of goroutines. A jose.ContextSigner gets a context that ends with
	// the request or after five seconds. Nobody waits longer for others either; they keep one of 32
	// places until they return. Each signature is verified.
	Signer crypto.Signer
	// SignsFrom is zero for a key that signs at once, and PublishedUntil for one that has no
	// successor yet. Each algorithm has a key without PublishedUntil.
	SignsFrom, PublishedUntil time.Time
}

// String keeps what the signer contains out of logs.
func (k ExternalKey) String() string { return fmt.Sprintf("[external key %s %s]", k.Algorithm, k.ID) }

// GoString keeps what the signer contains out of logs.
func (k ExternalKey) GoString() string { return k.String() }

// LogValue keeps what the signer contains out of structured logs.
func (k ExternalKey) LogValue() slog.Value { return slog.StringValue(k.String()) }

const (
	// externalTimeout is how long a signature may take.
	externalTimeout = 5 * time.Second
	// externalPlaces is how many signatures of a key are in progress at the same time.
	externalPlaces = 32
)

// errCannotSign is every failure of an external signer.
var errCannotSign = errors.New("the external signer failed")

// newExternalKeys checks external keys, and returns them as keys of a key ring.
func newExternalKeys(keys []ExternalKey, log *slog.Logger) ([]record.Key, error) {
	now := time.Now()
	var external []record.Key
	lasting := map[jose.Algorithm]bool{}
	for _, key := range keys {
		if key.ID == "" {
			return nil, errors.New("external key: the ID is missing")
		}
		if !slices.Contains(signingAlgorithms(), key.Algorithm) {
			return nil, fmt.Errorf("external key %s: %w: %q", key.ID, ErrKeyAlgorithm, key.Algorithm)
		}
		if slices.ContainsFunc(external, func(other record.Key) bool { return other.ID == key.ID }) {
			return nil, fmt.Errorf("external key %s: another one has the same ID", key.ID)
		}
		if _, err := jose.NewSigner(key.Algorithm, key.ID, key.Signer); err != nil {
			return nil, fmt.Errorf("external key %s: %w", key.ID, err)
		}
		if key.SignsFrom.IsZero() {
			key.SignsFrom = now
		}
		lasting[key.Algorithm] = lasting[key.Algorithm] || key.PublishedUntil.IsZero()
		external = append(external, record.Key{
			ID: key.ID, Algorithm: key.Algorithm, CreatedAt: now, SignsFrom: key.SignsFrom, PublishedUntil: key.PublishedUntil,
			Private: &externalSigner{key: key, log: log, places: make(chan struct{}, externalPlaces)},
		})
	}
	for _, key := range keys {
		if !lasting[key.Algorithm] {
			return nil, fmt.Errorf("external key %s: no key of %s is without PublishedUntil: nothing would sign after it", key.ID, key.Algorithm)
		}
	}
	return external, nil
}

// isExternal reports whether a key is in Config.ExternalKeys.
func isExternal(key *record.Key) bool {
	_, ok := key.Private.(*externalSigner)
	return ok
}

// externalSigns reports whether an external key of an algorithm signs.
func (s *Server) externalSigns(alg jose.Algorithm, now time.Time) bool {
	return slices.ContainsFunc(s.external, func(key record.Key) bool {
		return key.Algorithm == alg && !now.Before(key.SignsFrom)
	})
}

// ExternalKeys returns the keys of Config.ExternalKeys that are published now. CreatedAt is when the
// server started.
func (s *Server) ExternalKeys(now time.Time) []record.Key {
	return slices.DeleteFunc(slices.Clone(s.external), func(key record.Key) bool {
		return !key.PublishedUntil.IsZero() && expired(now, key.PublishedUntil)
	})
}

// FailingKeys returns the IDs of the external keys whose last signature failed.
func (s *Server) FailingKeys() []string {
	var failing []string
	for _, key := range s.external {
		if signer, ok := key.Private.(*externalSigner); ok && signer.failing.Load() {
			failing = append(failing, key.ID)
		}
	}
	return failing
}

// externalSigner limits how long others wait for a signer, and how many do.
type externalSigner struct {
	key     ExternalKey
	log     *slog.Logger
	places  chan struct{}
	failing atomic.Bool
}

var _ jose.ContextSigner = (*externalSigner)(nil)

func (e *externalSigner) Public() crypto.PublicKey { return e.key.Signer.Public() }

// Sign implements crypto.Signer.
func (e *externalSigner) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return e.SignContext(context.Background(), rand, digest, opts)
}

// SignContext implements jose.ContextSigner.
func (e *externalSigner) SignContext(ctx context.Context, rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	limited, cancel := context.WithTimeout(ctx, externalTimeout)
	defer cancel()
	signature, err := e.sign(limited, rand, digest, opts)
	switch {
	case err == nil:
		if e.failing.CompareAndSwap(true, false) {
			e.log.InfoContext(ctx, "the external signer works again", "kid", e.key.ID)
		}
		return signature, nil
	case ctx.Err() != nil: // the client has gone: that says nothing about the signer
		return nil, err
	case e.failing.CompareAndSwap(false, true):
		e.log.ErrorContext(ctx, "the external signer fails; requests that need a signature get 503", "kid", e.key.ID, "error", err)
	}
	return nil, fmt.Errorf("%w: key %s: %w", errCannotSign, e.key.ID, err)
}

type signed struct {
	signature []byte
	err       error
}

func (e *externalSigner) sign(ctx context.Context, rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	select {
	case e.places <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("%d signatures are in progress: %w", externalPlaces, ctx.Err())
	}
	digest = bytes.Clone(digest) // the caller reuses it, while the signer may still read it
	done := make(chan signed, 1)
	go func() {
		defer func() { <-e.places }()
		var s signed
		defer func() {
			if r := recover(); r != nil {
				s = signed{err: fmt.Errorf("panic: %v", r)}
			}
			done <- s
		}()
		if signer, ok := e.key.Signer.(jose.ContextSigner); ok {
			s.signature, s.err = signer.SignContext(ctx, rand, digest, opts)
		} else {
			s.signature, s.err = e.key.Signer.Sign(rand, digest, opts)
		}
	}()
	select {
	case s := <-done:
		return s.signature, s.err
	case <-ctx.Done():
		return nil, fmt.Errorf("no signature: %w", ctx.Err())
	}
}
