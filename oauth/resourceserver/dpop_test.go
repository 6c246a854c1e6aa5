package resourceserver

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/dpop"
	"github.com/valetkey/valetkey/oauth/jose"
)

// holder is a client with a key.
type holder struct {
	t   testing.TB
	key *jose.Signer
}

func newHolder(t testing.TB) *holder {
	t.Helper()
	private, err := jose.GenerateKey(jose.ES256)
	if err != nil {
		t.Fatal(err)
	}
	key, err := jose.NewEmbeddingSigner(jose.ES256, private)
	if err != nil {
		t.Fatal(err)
	}
	return &holder{t, key}
}

// cnf returns the claim of a token that is bound to the key.
func (h *holder) cnf() map[string]any {
	return map[string]any{"cnf": map[string]string{"jkt": h.key.Public().Thumbprint()}}
}

var proofID atomic.Int64

// proof returns a proof for a GET of the test resource. changes replace claims, or remove them if
// they are nil.
func (h *holder) proof(token string, changes map[string]any) string {
	h.t.Helper()
	claims := map[string]any{
		"jti": fmt.Sprint(proofID.Add(1)), "htm": "GET", "htu": testResource, "iat": time.Now().Unix(), "ath": oauth.S256Challenge(token),
	}
	maps.Copy(claims, changes)
	maps.DeleteFunc(claims, func(_ string, value any) bool { return value == nil })
	payload, err := json.Marshal(claims)
	if err != nil {
		h.t.Fatal(err)
	}
	proof, err := h.key.Sign(oauth.TypDPoPProof, payload)
	if err != nil {
		h.t.Fatal(err)
	}
	return proof
}

func callWithProof(handler http.Handler, authorization string, proofs ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, testResource, nil)
	r.Header.Set("Authorization", authorization)
	for _, proof := range proofs {
		r.Header.Add("DPoP", proof)
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return w
}

// refusedDPoP checks the status and the challenge for the scheme DPoP.
func refusedDPoP(t testing.TB, name string, w *httptest.ResponseRecorder, code oauth.ErrorCode) {
	t.Helper()
	challenges := oauth.ParseChallenges(w.Header().Get("WWW-Authenticate"))
	if w.Code != http.StatusUnauthorized || len(challenges) != 1 || challenges[0].Scheme != "DPoP" ||
		challenges[0].Param("error") != string(code) || !strings.Contains(challenges[0].Param("algs"), "ES256") {
		t.Errorf("%s: %d %s, want %s", name, w.Code, w.Header().Get("WWW-Authenticate"), code)
	}
}

func TestRS14_PP01_PP03_PP05_PP10_ProofsAreVerified(t *testing.T) {
	p, client, thief := newProvider(t), newHolder(t), newHolder(t)
	h := p.guard(t, nil).Require("notes.read")(whoami)
	token := p.token(t, "at+jwt", client.cnf())
	accepted(t, callWithProof(h, "DPoP "+token, client.proof(token, nil)), "alice")
	accepted(t, callWithProof(h, "dpop "+token, client.proof(token, map[string]any{"htu": "HTTPS://API.example.com:443/notes?a=b#c"})), "alice")
	accepted(t, callWithProof(h, "DPoP "+token, client.proof(token, map[string]any{"iat": time.Now().Unix() - 10})), "alice")
	for name, test := range map[string]struct {
		proofs []string
		code   oauth.ErrorCode
	}{
		"no proof":             {nil, oauth.InvalidDPoPProof},
		"two proofs":           {[]string{client.proof(token, nil), client.proof(token, nil)}, oauth.InvalidDPoPProof},
		"not a proof":          {[]string{token}, oauth.InvalidDPoPProof},
		"another key":          {[]string{thief.proof(token, nil)}, oauth.InvalidToken},
		"no ath":               {[]string{client.proof(token, map[string]any{"ath": nil})}, oauth.InvalidDPoPProof},
		"ath of another token": {[]string{client.proof("another token", nil)}, oauth.InvalidDPoPProof},
		"another method":       {[]string{client.proof(token, map[string]any{"htm": "POST"})}, oauth.InvalidDPoPProof},
		"another path":         {[]string{client.proof(token, map[string]any{"htu": testResource + "/1"})}, oauth.InvalidDPoPProof},
		"another host":         {[]string{client.proof(token, map[string]any{"htu": "https://evil.example.com/notes"})}, oauth.InvalidDPoPProof},
		"http":                 {[]string{client.proof(token, map[string]any{"htu": "http://api.example.com/notes"})}, oauth.InvalidDPoPProof},
		"old":                  {[]string{client.proof(token, map[string]any{"iat": time.Now().Unix() - 300})}, oauth.InvalidDPoPProof},
		"no jti":               {[]string{client.proof(token, map[string]any{"jti": nil})}, oauth.InvalidDPoPProof},
	} {
		refusedDPoP(t, name, callWithProof(h, "DPoP "+token, test.proofs...), test.code)
	}
	// Requirements of the route apply as usual.
	w := callWithProof(p.guard(t, nil).Require("notes.delete")(whoami), "DPoP "+token, client.proof(token, nil))
	if challenges := oauth.ParseChallenges(w.Header().Get("WWW-Authenticate")); w.Code != http.StatusForbidden || challenges[0].Param("scope") != "notes.delete" {
		t.Errorf("%d %s", w.Code, w.Header().Get("WWW-Authenticate"))
	}
}

func TestRS14_PP06_SchemeMatchesTheToken(t *testing.T) {
	p, client := newProvider(t), newHolder(t)
	for name, change := range map[string]func(*Config){"default": nil, "configured": func(c *Config) { c.DPoP = &DPoP{} }} {
		h := p.guard(t, change).Require()(whoami)
		bound, bearer := p.token(t, "at+jwt", client.cnf()), p.token(t, "at+jwt", nil)
		accepted(t, callWithProof(h, "Bearer "+bearer), "alice")
		accepted(t, callWithProof(h, "DPoP "+bound, client.proof(bound, nil)), "alice")
		refused(t, callWithProof(h, "Bearer "+bound), http.StatusUnauthorized, oauth.InvalidToken)
		w := callWithProof(h, "Bearer "+bound, client.proof(bound, nil))
		refused(t, w, http.StatusUnauthorized, oauth.InvalidToken)
		if announced := len(w.Header().Values("WWW-Authenticate")) == 2; announced != (change != nil) {
			t.Errorf("%s: %q", name, w.Header().Values("WWW-Authenticate"))
		}
		refusedDPoP(t, name, callWithProof(h, "DPoP "+bearer, client.proof(bearer, nil)), oauth.InvalidToken)
	}
	h := p.guard(t, func(c *Config) { c.DPoP = &DPoP{Required: true} }).Require()(whoami)
	refusedDPoP(t, "required", callWithProof(h, "Bearer "+p.token(t, "at+jwt", nil)), oauth.InvalidToken)
	if w := call(h); w.Code != http.StatusUnauthorized || !strings.HasPrefix(w.Header().Get("WWW-Authenticate"), "DPoP ") {
		t.Errorf("without a token: %d %q", w.Code, w.Header().Values("WWW-Authenticate"))
	}
	// Unknown confirmations cannot be proven.
	unknown := p.token(t, "at+jwt", map[string]any{"cnf": map[string]string{"kid": "x"}})
	refusedDPoP(t, "unknown cnf", callWithProof(h, "DPoP "+unknown, client.proof(unknown, nil)), oauth.InvalidToken)
}

func TestRS14_PP02_ProofIsAcceptedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, client := newProvider(t), newHolder(t)
		s := p.guard(t, nil)
		h := s.Require()(whoami)
		token := p.token(t, "at+jwt", client.cnf())
		proof := client.proof(token, nil)
		accepted(t, callWithProof(h, "DPoP "+token, proof), "alice")
		refusedDPoP(t, "replayed", callWithProof(h, "DPoP "+token, proof), oauth.InvalidDPoPProof)
		// A proof that was refused for another reason is not recorded.
		other := client.proof(token, nil)
		refusedDPoP(t, "another token", callWithProof(h, "DPoP "+p.token(t, "at+jwt", newHolder(t).cnf()), other), oauth.InvalidDPoPProof)
		accepted(t, callWithProof(h, "DPoP "+token, other), "alice")
		time.Sleep(2 * time.Minute)
		accepted(t, callWithProof(h, "DPoP "+token, client.proof(token, nil)), "alice")
		if n := len(s.proofs.memory.proofs); n != 1 {
			t.Errorf("%d proofs are remembered", n)
		}
	})
}

// sharedProofs is a store of all processes of an API.
type sharedProofs struct {
	used sync.Map
	err  error
}

func (s *sharedProofs) Use(_ context.Context, id string, _ time.Time) (bool, error) {
	_, known := s.used.LoadOrStore(id, true)
	return !known, s.err
}

func TestRS14_PP02_ProcessesCanShareUsedProofs(t *testing.T) {
	p, client, shared := newProvider(t), newHolder(t), &sharedProofs{}
	process := func() http.Handler {
		return p.guard(t, func(c *Config) { c.DPoP = &DPoP{UsedProofs: shared} }).Require()(whoami)
	}
	token := p.token(t, "at+jwt", client.cnf())
	proof := client.proof(token, nil)
	accepted(t, callWithProof(process(), "DPoP "+token, proof), "alice")
	refusedDPoP(t, "at another process", callWithProof(process(), "DPoP "+token, proof), oauth.InvalidDPoPProof)
	shared.err = errors.New("the database is down")
	unavailable(t, callWithProof(process(), "DPoP "+token, client.proof(token, nil)))
}

// The holder of one key cannot use up the memory for others.
func TestProofMemoryIsBoundedAndShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &proofMemory{}
		use := func(key, id string) error {
			fresh, err := m.use(key, sha256.Sum256([]byte(id)), time.Now().Add(time.Minute))
			if err == nil && !fresh {
				err = errors.New("it was used before")
			}
			return err
		}
		flood := 0
		for use("flood", fmt.Sprint(flood)) == nil {
			flood++
		}
		if flood > maxUsedProofs/2 {
			t.Errorf("one key has %d of %d proofs", flood, maxUsedProofs)
		}
		for i := range 1000 {
			if err := use(fmt.Sprint("key", i), fmt.Sprint("proof", i)); err != nil {
				t.Fatalf("the key of another client: %v", err)
			}
		}
		if err := use("flood", "one more"); !errors.Is(err, errProofMemoryFull) {
			t.Errorf("more proofs than the limit are remembered: %v", err)
		}
		for i := 0; len(m.proofs) < maxUsedProofs; i++ {
			if err := use(fmt.Sprint("many", i), fmt.Sprint("many", i)); err != nil {
				t.Fatal(err)
			}
		}
		if err := use("new", "new"); !errors.Is(err, errProofMemoryFull) {
			t.Errorf("more proofs than the limit are remembered: %v", err)
		}
		time.Sleep(time.Minute)
		if err := use("flood", "later"); err != nil || len(m.ofKey) != 1 || len(m.proofs) != 1 {
			t.Errorf("%v; %d keys and %d proofs are left", err, len(m.ofKey), len(m.proofs))
		}
	})
}

func TestRS14_PP04_NoncesOfTheAPI(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, client := newProvider(t), newHolder(t)
		process := func(key byte) http.Handler {
			return p.guard(t, func(c *Config) { c.DPoP = &DPoP{NonceKey: bytes.Repeat([]byte{key}, 32)} }).Require()(whoami)
		}
		h := process(1)
		token := p.token(t, "at+jwt", client.cnf())
		w := callWithProof(h, "DPoP "+token, client.proof(token, nil))
		refusedDPoP(t, "no nonce", w, oauth.UseDPoPNonce)
		nonce := w.Header().Get("DPoP-Nonce")
		w = callWithProof(process(1), "DPoP "+token, client.proof(token, map[string]any{"nonce": nonce}))
		if accepted(t, w, "alice"); w.Header().Get("DPoP-Nonce") == "" || !strings.Contains(w.Header().Get("DPoP-Nonce"), nonce) {
			t.Errorf("headers of a response: %v", w.Header())
		}
		w = callWithProof(process(2), "DPoP "+token, client.proof(token, map[string]any{"nonce": nonce}))
		refusedDPoP(t, "nonce of another API", w, oauth.UseDPoPNonce)
		if !strings.Contains(strings.Join(w.Header().Values("Access-Control-Expose-Headers"), ", "), "DPoP-Nonce") {
			t.Errorf("scripts cannot read the nonce: %v", w.Header())
		}
		time.Sleep(4 * time.Minute)
		refusedDPoP(t, "expired", callWithProof(h, "DPoP "+token, client.proof(token, map[string]any{"nonce": nonce})), oauth.UseDPoPNonce)
	})
	p := newProvider(t)
	if w := call(p.guard(t, func(c *Config) { c.DPoP = &DPoP{NonceKey: make([]byte, 32)} }).Require()(whoami), "Bearer "+p.token(t, "at+jwt", nil)); w.Header().Get("DPoP-Nonce") != "" {
		t.Error("a bearer request gets a nonce")
	}
}

func TestRS14_IntrospectedTokensNeedAProof(t *testing.T) {
	p, client := newProvider(t), newHolder(t)
	active := func(changes map[string]any) map[string]any {
		all := claims(changes)
		all["active"] = true
		return all
	}
	p.active["opaque"] = active(map[string]any{"token_type": "DPoP", "cnf": client.cnf()["cnf"]})
	p.active["unbound"] = active(map[string]any{"token_type": "DPoP"})
	h := p.guard(t, func(c *Config) { c.ClientID, c.ClientSecret = "api", "secret" }).Require()(whoami)
	accepted(t, callWithProof(h, "DPoP opaque", client.proof("opaque", nil)), "alice")
	refused(t, callWithProof(h, "Bearer opaque"), http.StatusUnauthorized, oauth.InvalidToken)
	refusedDPoP(t, "another key", callWithProof(h, "DPoP opaque", newHolder(t).proof("opaque", nil)), oauth.InvalidToken)
	refusedDPoP(t, "no cnf", callWithProof(h, "DPoP unbound", client.proof("unbound", nil)), oauth.InvalidToken)
}

// Behind a proxy, the API sees another host and another path than the client.
func TestRS14_PP10_URLBehindAProxy(t *testing.T) {
	p, client := newProvider(t), newHolder(t)
	h := p.guard(t, func(c *Config) { c.DPoP = &DPoP{BaseURL: "https://gateway.example.com/v1"} }).Require()(whoami)
	token := p.token(t, "at+jwt", client.cnf())
	accepted(t, callWithProof(h, "DPoP "+token, client.proof(token, map[string]any{"htu": "https://gateway.example.com/v1/notes"})), "alice")
	refusedDPoP(t, "inner URL", callWithProof(h, "DPoP "+token, client.proof(token, nil)), oauth.InvalidDPoPProof)

	stripped := http.StripPrefix("/notes", p.guard(t, nil).Require()(whoami))
	r := httptest.NewRequest(http.MethodGet, "/notes/1", nil)
	r.Header.Set("Authorization", "DPoP "+token)
	r.Header.Set("DPoP", client.proof(token, map[string]any{"htu": testResource + "/1"}))
	w := httptest.NewRecorder()
	stripped.ServeHTTP(w, r)
	accepted(t, w, "alice")
}

func TestDPoPConfigurationIsChecked(t *testing.T) {
	for name, config := range map[string]DPoP{
		"short key": {NonceKey: make([]byte, 31)}, "relative URL": {BaseURL: "/v1"}, "query": {BaseURL: "https://api.example.com/?a"}, "ftp": {BaseURL: "ftp://api.example.com"},
	} {
		if _, err := New(Config{Issuer: testIssuer, Resource: testResource, DPoP: &config}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := New(Config{Issuer: testIssuer, Resource: "urn:example:api", DPoP: &DPoP{}}); err == nil {
		t.Error("an API whose URL is not known")
	}
	// Without the URL, bound tokens are refused.
	p, client := newProvider(t), newHolder(t)
	h := p.guard(t, func(c *Config) { c.Resource = "urn:example:api" }).Require()(whoami)
	changes := client.cnf()
	changes["aud"] = "urn:example:api"
	token := p.token(t, "at+jwt", changes)
	if w := callWithProof(h, "DPoP "+token, client.proof(token, nil)); w.Code != http.StatusUnauthorized {
		t.Errorf("%d", w.Code)
	}
	secret := DPoP{NonceKey: []byte("this is the secret key of nonces")}
	if text := fmt.Sprintf("%v %+v %#v", secret, secret, secret); strings.Contains(text, "secret") || strings.Contains(text, "115") {
		t.Errorf("the key is printed: %s", text)
	}
}

func TestMetadataNamesTheAlgorithmsOfProofs(t *testing.T) {
	p := newProvider(t)
	s := p.guard(t, func(c *Config) { c.DPoP = &DPoP{Required: true, Algorithms: []jose.Algorithm{jose.ES256}} })
	w := httptest.NewRecorder()
	s.Metadata().ServeHTTP(w, httptest.NewRequest(http.MethodGet, s.MetadataPath(), nil))
	var m oauth.ProtectedResourceMetadata
	if err := json.Unmarshal(w.Body.Bytes(), &m); err != nil || len(m.DPoPSigningAlgValuesSupported) != 1 || !m.DPoPBoundAccessTokensRequired {
		t.Errorf("%v %s", err, w.Body)
	}
	key, err := dpop.GenerateKey()
	if err != nil || key.Algorithm() != jose.ES256 {
		t.Error(err)
	}
}
