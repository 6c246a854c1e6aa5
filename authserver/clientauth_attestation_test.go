package authserver_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage/memory"
	"github.com/valetkey/valetkey/storage/record"
)

// ATTEST [KEY], with claims as the body: the client attester signs an attestation for the key of a
// name, unless the claims have a cnf.
func (s *scene) verbAttest(w http.ResponseWriter, r *http.Request, words []string) error {
	var claims map[string]any
	if err := json.NewDecoder(r.Body).Decode(&claims); err != nil {
		return fmt.Errorf("read the claims: %w", err)
	}
	attestation, err := s.attest(strings.Join(words, " "), claims)
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, attestation)
	return err
}

func (s *scene) attest(keyName string, claims map[string]any) (string, error) {
	key, err := s.proofKey(keyName)
	if err != nil {
		return "", err
	}
	if claims["cnf"] == nil {
		claims["cnf"] = map[string]any{"jwk": key.Public()}
	}
	return s.sign(jose.ES256, oauth.TypClientAttestation, "", claims)
}

// POSSESSION [KEY], with claims as the body: a client instance signs a proof of possession.
func (s *scene) verbPossession(w http.ResponseWriter, r *http.Request, words []string) error {
	var claims map[string]any
	if err := json.NewDecoder(r.Body).Decode(&claims); err != nil {
		return fmt.Errorf("read the claims: %w", err)
	}
	proof, err := s.proof(strings.Join(words, " "), oauth.TypClientAttestationProof, claims)
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, proof)
	return err
}

func attestedSetup(change ...func(*record.Client)) scriptSetup {
	return scriptSetup{Clients: []testClient{confidential("wallet", append([]func(*record.Client){func(c *record.Client) {
		c.TokenEndpointAuthMethod, c.JWKS = oauth.AuthMethodAttestation, []byte(`"$key"`)
	}}, change...)...)}}
}

// attested sends a client credentials request with the headers of an attested client.
func (s *scene) attested(attestation, possession string) apiResponse {
	r := httptest.NewRequest(http.MethodPost, "/token", strings.NewReader(url.Values{"grant_type": {"client_credentials"}}.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if attestation != "" {
		r.Header.Set("OAuth-Client-Attestation", attestation)
	}
	if possession != "" {
		r.Header.Set("OAuth-Client-Attestation-PoP", possession)
	}
	return s.do(r)
}

// challengeOf returns a challenge of the endpoint.
func (s *scene) challengeOf() string {
	w := httptest.NewRecorder()
	s.server.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/challenge", nil))
	var response oauth.AttestationChallengeResponse
	if err := json.Unmarshal(w.Body.Bytes(), &response); err != nil {
		s.t.Fatal(err)
	}
	return response.AttestationChallenge
}

func (s *scene) mustAttest(t *testing.T, keyName string) string {
	t.Helper()
	attestation, err := s.attest(keyName, map[string]any{"sub": "wallet", "exp": "1h"})
	if err != nil {
		t.Fatal(err)
	}
	return attestation
}

// possess returns a proof of possession. changes replace claims, or remove them if they are nil.
func (s *scene) possess(t *testing.T, keyName string, changes map[string]any) string {
	t.Helper()
	claims := map[string]any{"aud": scriptIssuer, "jti": fmt.Sprint("possession ", proofCount.Add(1)), "iat": time.Now().Unix(), "challenge": s.challengeOf()}
	for name, value := range changes {
		if claims[name] = value; value == nil {
			delete(claims, name)
		}
	}
	proof, err := s.proof(keyName, oauth.TypClientAttestationProof, claims)
	if err != nil {
		t.Fatal(err)
	}
	return proof
}

// A proof of possession is accepted once, by all nodes together, also if requests race.
func TestCA07_AProofOfPossessionIsAcceptedOnce(t *testing.T) {
	stores(t, func(t *testing.T, store database) {
		s := newSceneOn(t, attestedSetup(), store, nil)
		second, err := authserver.New(s.config) // another node, or this one after a restart
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(second.Close)
		other := *s
		other.server = second
		attestation, possession := s.mustAttest(t, ""), s.possess(t, "", nil)
		var accepted atomic.Int64
		race(20, func(i int) {
			node := s
			if i%2 == 1 {
				node = &other
			}
			switch a := node.attested(attestation, possession); {
			case a.status == http.StatusOK:
				accepted.Add(1)
			case a.Error != string(oauth.InvalidClientAttestation):
				t.Errorf("another request: %d %s", a.status, a.body)
			}
		})
		if accepted.Load() != 1 {
			t.Errorf("accepted %d times", accepted.Load())
		}
		if a := other.attested(attestation, s.possess(t, "", nil)); a.status != http.StatusOK {
			t.Errorf("the attestation cannot be used again: %d %s", a.status, a.body)
		}
	})
}

// Before the attestation is verified, all refusals are the same, so that they reveal no client.
func TestCA17_AttestationsRevealNoClients(t *testing.T) {
	s := newScene(t, attestedSetup())
	stranger, err := jose.NewSecretSigner(jose.HS256, []byte("a secret that anyone may know, of 32 bytes"))
	if err != nil {
		t.Fatal(err)
	}
	for _, sub := range []string{"wallet", "unknown"} {
		forged, err := stranger.Sign(oauth.TypClientAttestation, []byte(`{"sub":"`+sub+`","exp":99999999999}`))
		if err != nil {
			t.Fatal(err)
		}
		a := s.attested(forged, s.possess(t, "", nil))
		a.want(t, http.StatusUnauthorized, oauth.InvalidClient)
		if a.header.Get("OAuth-Client-Attestation-Challenge") != "" {
			t.Error("a stranger gets a challenge with the refusal")
		}
	}
}

// Only a proof that is signed with the attested key authenticates the client.
func FuzzClientAttestation(f *testing.F) {
	s := newSceneOn(f, attestedSetup(), memory.New(), nil)
	attestation, err := s.attest("", map[string]any{"sub": "wallet", "exp": "24h"})
	if err != nil {
		f.Fatal(err)
	}
	used, err := s.proof("", oauth.TypClientAttestationProof, map[string]any{"aud": scriptIssuer, "jti": "1", "iat": "0s", "challenge": s.challengeOf()})
	if err != nil {
		f.Fatal(err)
	}
	if a := s.attested(attestation, used); a.status != http.StatusOK {
		f.Fatalf("%d %s", a.status, a.body)
	}
	for _, seed := range []string{used, used + "=", attestation, attestation[1:], "a.b.c", "eyJhbGciOiJub25lIn0.e30.", "..", strings.Repeat(".", 1000)} {
		f.Add(attestation, seed)
		f.Add(seed, used)
		f.Add(seed, "")
	}
	f.Fuzz(func(t *testing.T, attestation, possession string) {
		s.t = t
		if a := s.attested(attestation, possession); a.status < 400 || a.status >= 500 {
			t.Errorf("%q, %q: %d %s", attestation, possession, a.status, a.body)
		}
	})
}
