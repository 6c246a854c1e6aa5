package jose

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
)

func TestJW08_AmbiguousDocumentsAreRejected(t *testing.T) {
	var into struct {
		Name string `json:"name"`
	}
	if err := ParseJSON([]byte(`{"name":"a","other":1}`), &into); err != nil || into.Name != "a" {
		t.Errorf("%q, %v", into.Name, err)
	}
	for name, document := range map[string]string{
		"a member twice": `{"name":"a","name":"b"}`, "another type": `{"name":1}`, "trailing data": `{"name":"a"}{}`, "nothing": ``,
		"too deep": `{"x":` + strings.Repeat("[", 20) + strings.Repeat("]", 20) + `}`, "too large": `{"name":"` + strings.Repeat("a", 600<<10) + `"}`,
	} {
		if err := ParseJSON([]byte(document), &into); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	into.Name = ""
	if err := ParseJSON([]byte(`{"NAME":"a"}`), &into); err != nil || into.Name != "" {
		t.Errorf("a name in another case is decoded as %q (%v)", into.Name, err)
	}
}

func TestUnsignedTokensAreNeverAccepted(t *testing.T) {
	token, err := Unsigned("x", []byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	header, err := ParseHeader(token)
	if err != nil || header.Algorithm != "none" || header.Type != "x" {
		t.Errorf("%+v, %v", header, err)
	}
	if _, _, err := Verify(token, publicKeys(asymmetric...), anything); err == nil {
		t.Error("accepted with keys")
	}
	if _, _, err := VerifySecret(token, make([]byte, 64), anything); err == nil {
		t.Error("accepted with a secret")
	}
}

func TestVerifiesReportsSigningKeys(t *testing.T) {
	encrypts := keySet(t, with(t, ES256, map[string]any{"use": "enc", "alg": "ECDH-ES"}))
	if encrypts.Verifies() || !publicKeys(ES256).Verifies() || (*KeySet)(nil).Verifies() || (&KeySet{}).Verifies() {
		t.Error("Verifies is true for encryption keys, or false for signing keys")
	}
	signer := signers()[ES256]
	if signer.KeyID() != "ES256" || signer.Algorithm() != ES256 || signer.Public().KeyID() != "ES256" {
		t.Errorf("the signer is %q for %q", signer.KeyID(), signer.Algorithm())
	}
}

// Every part of a JWE has a fixed length, and every bit of it is checked.
func TestEveryPartOfAJWEIsChecked(t *testing.T) {
	secret, all := SharedSecret("secret"), SecretEncryptionAlgorithms()
	for _, alg := range all {
		for _, enc := range []Encryption{A128GCM, A256CBCHS512} {
			token, err := EncryptSecret(alg, enc, secret, Message{Payload: []byte(`{"sub":"a"}`), ContentType: "JWT"})
			if err != nil {
				t.Fatal(err)
			}
			header, err := ParseEncryptedHeader(token)
			if err != nil || header.Algorithm != alg || header.Encryption != enc || header.ContentType != "JWT" {
				t.Errorf("%+v, %v", header, err)
			}
			if payload, _, err := DecryptSecret(token, secret, all); err != nil || string(payload) != `{"sub":"a"}` {
				t.Fatalf("%s %s: %q, %v", alg, enc, payload, err)
			}
			for part := 1; part < 5; part++ {
				parts := strings.Split(token, ".")
				good, err := base64.RawURLEncoding.DecodeString(parts[part])
				if err != nil {
					t.Fatal(err)
				}
				flipped := append([]byte(nil), good...)
				if len(flipped) > 0 {
					flipped[len(flipped)-1] ^= 1
				}
				variants := map[string][]byte{"longer": append(good[:len(good):len(good)], 0), "empty": {}, "flipped": flipped}
				if len(good) > 0 {
					variants["shorter"] = good[:len(good)-1]
				} else {
					delete(variants, "empty")
					delete(variants, "flipped")
				}
				for name, varied := range variants {
					parts[part] = base64.RawURLEncoding.EncodeToString(varied)
					if payload, _, err := DecryptSecret(strings.Join(parts, "."), secret, all); err == nil {
						t.Errorf("%s %s: part %d %s: decrypted as %q", alg, enc, part, name, payload)
					}
				}
			}
			if _, _, err := DecryptSecret(token, SharedSecret("another"), all); !errors.Is(err, ErrDecryption) {
				t.Errorf("%s %s with another secret: %v", alg, enc, err)
			}
			if _, _, err := DecryptSecret(token, secret, []Algorithm{"RSA-OAEP"}); !errors.Is(err, ErrAlgorithm) {
				t.Errorf("%s %s if another algorithm is expected: %v", alg, enc, err)
			}
		}
	}
	for _, token := range []string{"", "a.b.c", "....", "e30....", strings.Repeat("A", 1<<20) + "...."} {
		if header, err := ParseEncryptedHeader(token); err == nil {
			t.Errorf("%.10q: %+v", token, header)
		}
	}
}

// Shared keys are never longer than the longest hash (OpenID Connect Core, section 10.2).
func TestSharedSecretLengths(t *testing.T) {
	for _, size := range []int{16, 32, 48, 64} {
		if got := SharedSecret("secret")(size); len(got) != size {
			t.Errorf("%d bytes: got %d", size, len(got))
		}
	}
	if got := SharedSecret("secret")(65); got != nil {
		t.Errorf("65 bytes: got %d", len(got))
	}
}
