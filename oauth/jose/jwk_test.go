package jose

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"testing"
)

func publicMembers(t testing.TB, alg Algorithm) map[string]any {
	t.Helper()
	b, err := signers()[alg].Public().MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	var members map[string]any
	if err := json.Unmarshal(b, &members); err != nil {
		t.Fatal(err)
	}
	return members
}

// with returns the public JWK of alg with changed members; nil removes a member.
func with(t testing.TB, alg Algorithm, changes map[string]any) string {
	t.Helper()
	members := publicMembers(t, alg)
	for name, value := range changes {
		if members[name] = value; value == nil {
			delete(members, name)
		}
	}
	b, err := json.Marshal(members)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func rsaJWK(n *big.Int, e int64) string {
	return fmt.Sprintf(`{"kty":"RSA","n":%q,"e":%q}`,
		base64.RawURLEncoding.EncodeToString(n.Bytes()), base64.RawURLEncoding.EncodeToString(big.NewInt(e).Bytes()))
}

func TestJW14_WeakAndUnusableKeysAreSkipped(t *testing.T) {
	good := signers()[RS256].key.(*rsa.PrivateKey).N
	odd := func(bits uint) *big.Int { n := new(big.Int).Lsh(big.NewInt(1), bits); return n.Sub(n, big.NewInt(1)) }
	// 65537 modulo each small prime, like keys affected by ROCA (CVE-2017-15361).
	roca := big.NewInt(1)
	for p := int64(3); p <= 167; p += 2 {
		if big.NewInt(p).ProbablyPrime(0) {
			roca.Mul(roca, big.NewInt(p))
		}
	}
	roca.Lsh(roca, 2047-uint(roca.BitLen())+1).Add(roca, big.NewInt(65537))
	for name, key := range map[string]string{
		"RSA affected by ROCA":    rsaJWK(roca, 65537),
		"RSA of 1024 bits":        rsaJWK(odd(1024), 65537),
		"RSA of 2047 bits":        rsaJWK(odd(2047), 65537),
		"RSA of 10,000 bits":      rsaJWK(odd(10_000), 65537),
		"exponent 1":              rsaJWK(good, 1),
		"exponent 0":              rsaJWK(good, 0),
		"even exponent":           rsaJWK(good, 65536),
		"exponent over 31 bits":   rsaJWK(good, 1<<40+1),
		"even modulus":            rsaJWK(new(big.Int).Sub(good, big.NewInt(1)), 65537),
		"point off the curve":     with(t, ES256, map[string]any{"x": base64.RawURLEncoding.EncodeToString(make([]byte, 32))}),
		"coordinate too short":    with(t, ES256, map[string]any{"x": "AA"}),
		"another curve's point":   with(t, ES256, map[string]any{"crv": "P-384"}),
		"P-192":                   with(t, ES256, map[string]any{"crv": "P-192"}),
		"secp256k1":               with(t, ES256, map[string]any{"crv": "secp256k1"}),
		"alg of another curve":    with(t, ES256, map[string]any{"alg": "ES384"}),
		"alg of another type":     with(t, ES256, map[string]any{"alg": "RS256"}),
		"alg that is symmetric":   with(t, RS256, map[string]any{"alg": "HS256"}),
		"alg none":                with(t, RS256, map[string]any{"alg": "none"}),
		"alg that is a number":    with(t, ES256, map[string]any{"alg": 1}),
		"kid that is a number":    with(t, ES256, map[string]any{"kid": 1}),
		"use for encryption":      with(t, ES256, map[string]any{"use": "enc"}),
		"use that is a number":    with(t, ES256, map[string]any{"use": 1}),
		"operations without":      with(t, ES256, map[string]any{"use": nil, "key_ops": []string{"deriveKey"}}),
		"operations not a list":   with(t, ES256, map[string]any{"use": nil, "key_ops": "sign"}),
		"Ed25519 of 31 bytes":     with(t, EdDSA, map[string]any{"x": base64.RawURLEncoding.EncodeToString(make([]byte, 31))}),
		"X25519":                  with(t, EdDSA, map[string]any{"crv": "X25519"}),
		"a type of the future":    `{"kty":"AKP","alg":"ML-DSA-44","pub":"AA"}`,
		"no type":                 `{"n":"AQAB","e":"AQAB"}`,
		"EC without coordinates":  `{"kty":"EC","crv":"P-256"}`,
		"RSA without modulus":     `{"kty":"RSA","e":"AQAB"}`,
		"type in the wrong case":  with(t, ES256, map[string]any{"kty": "ec"}),
		"certificate of nonsense": with(t, ES256, map[string]any{"x5c": []string{"AA"}}),
	} {
		// The valid key in the same set is kept.
		set, err := ParseKeySet([]byte(`{"keys":[` + key + `,` + with(t, ES384, nil) + `]}`))
		if err != nil {
			t.Errorf("%s: the valid key is lost too: %v", name, err)
		} else if len(set.Keys) != 1 || set.Keys[0].KeyID() != "ES384" {
			t.Errorf("%s: accepted, or the valid key is lost: %d keys", name, len(set.Keys))
		}
	}
}

func TestJW14_DuplicateKeyIDs(t *testing.T) {
	second, _ := GenerateKey(ES256)
	signer, _ := NewSigner(ES256, "ES256", second)
	other, _ := signer.Public().MarshalJSON()
	if _, err := ParseKeySet([]byte(`{"keys":[` + with(t, ES256, nil) + `,` + string(other) + `]}`)); err == nil {
		t.Error("two keys with the same kid and algorithm were accepted")
	}
	// The same kid for two algorithms is common (RFC 7517, section 4.5).
	set := keySet(t, with(t, ES256, map[string]any{"kid": "k"}), with(t, EdDSA, map[string]any{"kid": "k"}))
	if len(set.Keys) != 2 {
		t.Errorf("%d keys", len(set.Keys))
	}
}

func TestJW14_MalformedKeySetsAreRejected(t *testing.T) {
	many := make([]string, 101)
	for i := range many {
		many[i] = with(t, ES256, map[string]any{"kid": fmt.Sprint(i)})
	}
	for name, document := range map[string]string{
		"101 keys":               `{"keys":[` + strings.Join(many, ",") + `]}`,
		"100,000 keys":           `{"keys":[` + strings.Repeat(`{},`, 100_000) + `{}]}`,
		"more than 512 kB":       `{"keys":[],"x":"` + strings.Repeat("x", 512<<10) + `"}`,
		"deep":                   `{"keys":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + `}`,
		"no keys":                `{}`,
		"keys null":              `{"keys":null}`,
		"keys object":            `{"keys":{}}`,
		"Keys":                   `{"Keys":[]}`,
		"keys twice":             `{"keys":[],"keys":[]}`,
		"a member twice":         `{"keys":[{"kty":"EC","kty":"RSA"}]}`,
		"an array":               `[]`,
		"null":                   `null`,
		"HTML":                   `<!doctype html><title>Sign in</title>`,
		"empty":                  ``,
		"trailing data":          `{"keys":[]} {"keys":[]}`,
		"a key that is a number": `{"keys":[1]}`,
		"a key that is null":     `{"keys":[null]}`,
		"a key in a key":         `{"keys":[[{}]]}`,
		"a byte-order mark":      "\ufeff" + `{"keys":[]}`,
		"a key, not a set":       with(t, ES256, nil),
	} {
		if set, err := ParseKeySet([]byte(document)); err == nil {
			t.Errorf("%s: accepted with %d keys", name, len(set.Keys))
		}
	}
	if set, err := ParseKeySet([]byte(`{"keys":[` + strings.Join(many[:100], ",") + `]}`)); err != nil || len(set.Keys) != 100 {
		t.Errorf("100 keys: %v", err)
	}
}

func TestJW15_PrivateKeysAreNeverPublished(t *testing.T) {
	for _, alg := range asymmetric {
		members := publicMembers(t, alg)
		for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"} {
			if _, ok := members[private]; ok {
				t.Errorf("%s publishes %s", alg, private)
			}
		}
		if members["kid"] != string(alg) || members["alg"] != string(alg) || members["use"] != "sig" {
			t.Errorf("%s: %v", alg, members)
		}
	}
	secret, _ := NewSecretSigner(HS256, make([]byte, 32))
	for name, key := range map[string]JWK{
		"secret": secret.Public(), "zero": {}, "private": {key: signers()[ES256].key}, "bytes": {key: []byte("secret")},
	} {
		if b, err := json.Marshal(KeySet{Keys: []JWK{key}}); err == nil {
			t.Errorf("%s: published %s", name, b)
		}
	}
}

func TestJW15_KeySetsWithPrivateKeysAreRejected(t *testing.T) {
	for _, member := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"} {
		if _, err := ParseKeySet([]byte(`{"keys":[` + with(t, RS256, map[string]any{member: "AQAB"}) + `]}`)); err == nil {
			t.Errorf("a key with %s was accepted", member)
		}
	}
	secret := make([]byte, 32)
	_, _ = rand.Read(secret)
	_, err := ParseKeySet([]byte(`{"keys":[{"kty":"oct","k":"` + base64.RawURLEncoding.EncodeToString(secret) + `"}]}`))
	if err == nil {
		t.Error("a symmetric key was accepted")
	} else if strings.Contains(err.Error(), base64.RawURLEncoding.EncodeToString(secret)) {
		t.Error("the error contains the secret")
	}
}

func TestKeyOperationsOfASigningKey(t *testing.T) {
	set := keySet(t, with(t, ES256, map[string]any{"use": nil, "key_ops": []string{"verify"}, "alg": nil, "kid": nil}))
	if _, _, err := Verify(forge(t, ES256, `{"alg":"ES256"}`, "{}"), set, anything); err != nil {
		t.Error(err)
	}
}
