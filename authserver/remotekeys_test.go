package authserver

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/jose"
)

// A stranger's kid does not make the engine ask a client's jwks_uri at each request, and
// a JWKS that cannot be read leaves the keys as they were.
func TestJW06_JW26_RemoteKeysAreAskedForSeldom(t *testing.T) {
	fetches, answer, failure := 0, `{"keys":[]}`, error(nil)
	r := &remoteKeySet{url: "https://client.example/jwks", fetch: func(context.Context, string) ([]byte, error) {
		fetches++
		return []byte(answer), failure
	}}
	now := time.Now()
	for range 1000 {
		if _, err := r.get(t.Context(), now, true); err != nil {
			t.Fatal(err)
		}
		now = now.Add(10 * time.Millisecond)
	}
	if fetches != 1 {
		t.Errorf("1000 unknown kids in 10 seconds cost %d fetches", fetches)
	}
	for _, bad := range []string{"<html>", strings.Repeat("[", 1000), `{"keys":`} {
		now = now.Add(remoteKeysLife)
		answer = bad
		if keys, err := r.get(t.Context(), now, false); err != nil || keys == nil {
			t.Errorf("%.10q costs the keys: %v", bad, err)
		}
	}
	failure = errFetch
	now = now.Add(remoteKeysLife)
	if keys, err := r.get(t.Context(), now, false); err != nil || keys == nil {
		t.Errorf("a jwks_uri that is down costs the keys: %v", err)
	}
}

// A client that begins to encrypt, or changes the kind of its key, is not kept waiting for
// the end of what is remembered.
func TestClientsKeysAreFetchedAgainWhenNoneFits(t *testing.T) {
	const point = `"crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"`
	answer := `{"keys":[{"kty":"EC","kid":"s","use":"sig",` + point + `}]}`
	cl := &client{remoteKeys: &remoteKeySet{url: "https://client.example/jwks", fetch: func(context.Context, string) ([]byte, error) {
		return []byte(answer), nil
	}}}
	now := time.Now()
	if key, err := cl.recipient(t.Context(), now, jose.ECDHES); err == nil {
		t.Errorf("encrypts to %s, which signs", key.KeyID())
	}
	answer = `{"keys":[{"kty":"EC","kid":"e","use":"enc",` + point + `}]}`
	if key, err := cl.recipient(t.Context(), now.Add(remoteKeysRest), jose.ECDHES); err != nil || key.KeyID() != "e" {
		t.Errorf("%s, %v", key.KeyID(), err)
	}
}
