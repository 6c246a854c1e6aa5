package jose_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"testing"

	"github.com/valetkey/valetkey/oauth/jose"
)

func TestEmbeddedKeyVerifiesItsToken(t *testing.T) {
	for _, alg := range []jose.Algorithm{jose.ES256, jose.ES384, jose.ES512, jose.PS256, jose.EdDSA, jose.Ed25519} {
		private, err := jose.GenerateKey(alg)
		if err != nil {
			t.Fatal(err)
		}
		signer, err := jose.NewEmbeddingSigner(alg, private)
		if err != nil {
			t.Fatal(err)
		}
		token, err := signer.Sign("example+jwt", []byte(`{"a":1}`))
		if err != nil {
			t.Fatal(err)
		}
		payload, key, header, err := jose.VerifyEmbedded(token, jose.Expected{Algorithms: jose.SigningAlgorithms(), Types: []string{"example+jwt"}})
		if err != nil || string(payload) != `{"a":1}` || key.Thumbprint() != signer.Public().Thumbprint() || header.Algorithm != alg {
			t.Errorf("%s: %q %q %v %v", alg, payload, key.Thumbprint(), header, err)
		}
		tampered := token[:len(token)-8] + "AAAAAAAA"
		if _, _, _, err := jose.VerifyEmbedded(tampered, jose.Expected{Algorithms: jose.SigningAlgorithms()}); err == nil {
			t.Errorf("%s: a changed signature is accepted", alg)
		}
	}
}

func TestEmbeddedKeyMustBePublicAndFit(t *testing.T) {
	private, err := jose.GenerateKey(jose.ES256)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.ES256, "", private)
	if err != nil {
		t.Fatal(err)
	}
	public, err := json.Marshal(signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	var members map[string]any
	if err := json.Unmarshal(public, &members); err != nil {
		t.Fatal(err)
	}
	with := func(name string, value any) map[string]any {
		jwk := map[string]any{"kty": "EC", "crv": "P-256", "x": members["x"], "y": members["y"]}
		if name != "" {
			jwk[name] = value
		}
		return jwk
	}
	for name, header := range map[string]map[string]any{
		"no key":             {"alg": "ES256"},
		"null":               {"alg": "ES256", "jwk": nil},
		"a string":           {"alg": "ES256", "jwk": "x"},
		"private member":     {"alg": "ES256", "jwk": with("d", "AAAA")},
		"empty private part": {"alg": "ES256", "jwk": with("d", "")},
		"symmetric key":      {"alg": "HS256", "jwk": map[string]any{"kty": "oct", "k": "AAAA"}},
		"HMAC with EC key":   {"alg": "HS256", "jwk": with("", nil)},
		"none":               {"alg": "none", "jwk": with("", nil)},
		"another algorithm":  {"alg": "ES384", "jwk": with("", nil)},
		"key for encryption": {"alg": "ES256", "jwk": with("use", "enc")},
		"off the curve":      {"alg": "ES256", "jwk": with("y", members["x"])},
		"another curve":      {"alg": "ES256", "jwk": with("crv", "P-384")},
		"another alg in jwk": {"alg": "ES256", "jwk": with("alg", "ES384")},
		"critical extension": {"alg": "ES256", "jwk": with("", nil), "crit": []string{"b64"}},
	} {
		raw, err := json.Marshal(header)
		if err != nil {
			t.Fatal(err)
		}
		encoding := base64.RawURLEncoding
		token := encoding.EncodeToString(raw) + "." + encoding.EncodeToString([]byte(`{}`)) + "." + encoding.EncodeToString(make([]byte, 64))
		_, _, _, err = jose.VerifyEmbedded(token, jose.Expected{Algorithms: append(jose.SigningAlgorithms(), jose.HS256, "none")})
		unusable := name == "another algorithm" || name == "another alg in jwk" || name == "none" || name == "key for encryption"
		if err == nil || errors.Is(err, jose.ErrSignature) && !unusable {
			t.Errorf("%s: %v", name, err)
		}
	}
}
