package jose

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"

	gojose "github.com/go-jose/go-jose/v4"
)

var encryptionRSA = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func decrypter(t testing.TB, kid string, key crypto.PrivateKey) *Decrypter {
	t.Helper()
	d, err := NewDecrypter(kid, key)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func curveKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Every pair of algorithms is tested in both directions with another library.
func TestEncryptionInteroperatesWithGoJose(t *testing.T) {
	message := Message{Type: "JWT", ContentType: "JWT", Payload: []byte(`{"sub":"alice"}`)}
	all := append(PublicKeyEncryptionAlgorithms(), SecretEncryptionAlgorithms()...)
	var their []gojose.KeyAlgorithm
	var theirEnc []gojose.ContentEncryption
	for _, alg := range all {
		their = append(their, gojose.KeyAlgorithm(alg))
	}
	for _, enc := range Encryptions() {
		theirEnc = append(theirEnc, gojose.ContentEncryption(enc))
	}
	secret := SharedSecret("a client secret that is long enough for everything")
	check := func(name string, alg Algorithm, enc Encryption, key any, encrypt func() (string, error), decrypt func(string) ([]byte, EncryptedHeader, error)) {
		t.Run(name, func(t *testing.T) {
			token, err := encrypt()
			if err != nil {
				t.Fatal(err)
			}
			object, err := gojose.ParseEncryptedCompact(token, their, theirEnc)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := object.Decrypt(key); err != nil || !bytes.Equal(got, message.Payload) {
				t.Errorf("the other library decrypted %q, %v", got, err)
			}
			if got, h, err := decrypt(token); err != nil || !bytes.Equal(got, message.Payload) || h.ContentType != "JWT" {
				t.Errorf("decrypted %q, %+v, %v", got, h, err)
			}
			public := key
			if k, ok := key.(interface{ Public() crypto.PublicKey }); ok {
				public = k.Public()
			}
			other, err := gojose.NewEncrypter(gojose.ContentEncryption(enc), gojose.Recipient{Algorithm: gojose.KeyAlgorithm(alg), Key: public, KeyID: "k"}, nil)
			if err != nil {
				t.Fatal(err)
			}
			object, err = other.Encrypt(message.Payload)
			if err != nil {
				t.Fatal(err)
			}
			if token, err = object.CompactSerialize(); err != nil {
				t.Fatal(err)
			}
			if got, _, err := decrypt(token); err != nil || !bytes.Equal(got, message.Payload) {
				t.Errorf("decrypted %q of the other library, %v", got, err)
			}
		})
	}
	for _, enc := range Encryptions() {
		for _, alg := range PublicKeyEncryptionAlgorithms() {
			keys := []crypto.Signer{encryptionRSA()}
			if alg.agrees() {
				keys = []crypto.Signer{curveKey(t, elliptic.P256()), curveKey(t, elliptic.P384()), curveKey(t, elliptic.P521())}
			}
			for _, key := range keys {
				d := decrypter(t, "k", key)
				check(string(alg)+" "+string(enc), alg, enc, key,
					func() (string, error) { return Encrypt(alg, enc, d.Public(), message) },
					func(token string) ([]byte, EncryptedHeader, error) { return Decrypt(token, []*Decrypter{d}, all) })
			}
		}
		for _, alg := range SecretEncryptionAlgorithms() {
			size := alg.wrapBytes()
			if alg == Direct {
				size = enc.keyBytes()
			}
			check(string(alg)+" "+string(enc), alg, enc, secret(size),
				func() (string, error) { return EncryptSecret(alg, enc, secret, message) },
				func(token string) ([]byte, EncryptedHeader, error) { return DecryptSecret(token, secret, all) })
		}
	}
}

// RFC 8037, section 3.2: ECDH-ES on X25519, with a key that was encoded and parsed.
func TestX25519(t *testing.T) {
	private, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	d := decrypter(t, "x", private)
	document, err := json.Marshal(KeySet{Keys: []JWK{d.Public()}})
	if err != nil {
		t.Fatal(err)
	}
	set, err := ParseKeySet(document)
	if err != nil || len(set.Keys) != 1 || set.Keys[0].Thumbprint() != d.Public().Thumbprint() {
		t.Fatalf("%s became %+v, %v", document, set, err)
	}
	for _, alg := range []Algorithm{ECDHES, ECDHESA128KW, ECDHESA256KW} {
		to, ok := set.Recipient(alg)
		if !ok {
			t.Fatalf("no recipient for %s", alg)
		}
		token, err := Encrypt(alg, A256GCM, to, Message{Payload: []byte("x")})
		if err != nil {
			t.Fatal(err)
		}
		if got, _, err := Decrypt(token, []*Decrypter{d}, PublicKeyEncryptionAlgorithms()); err != nil || string(got) != "x" {
			t.Errorf("%s: %q, %v", alg, got, err)
		}
	}
	// RFC 8037, appendix A.6: Bob's key.
	bob := keySet(t, `{"kty":"OKP","crv":"X25519","kid":"Bob","x":"3p7bfXt9wbTTW2HC7OQ1Nz-DQ8hbeGdNrfx-FG-IK08"}`)
	if _, ok := bob.Recipient(ECDHES); !ok || bob.Keys[0].verifies(EdDSA) {
		t.Errorf("got %+v", bob.Keys)
	}
}

func forgeEncrypted(t *testing.T, header string) string {
	t.Helper()
	encode := base64.RawURLEncoding.EncodeToString
	return strings.Join([]string{encode([]byte(header)), "", encode(make([]byte, 12)), encode(make([]byte, 8)), encode(make([]byte, 16))}, ".")
}

func TestJW16_JW17_JW18_JW19_InvalidJWEsAreRejected(t *testing.T) {
	d := decrypter(t, "k", curveKey(t, elliptic.P256()))
	all := append(PublicKeyEncryptionAlgorithms(), SecretEncryptionAlgorithms()...)
	for header, want := range map[string]error{
		`{"alg":"RSA1_5","enc":"A128GCM"}`:                                           ErrAlgorithm,
		`{"alg":"PBES2-HS256+A128KW","enc":"A128GCM","p2c":2147483647,"p2s":"AAAA"}`: ErrAlgorithm,
		`{"alg":"none","enc":"A128GCM"}`:                                             ErrAlgorithm,
		`{"alg":"dir","enc":"none"}`:                                                 ErrAlgorithm,
		`{"alg":"dir","enc":"A128GCM","zip":"DEF"}`:                                  ErrMalformed,
		`{"alg":"dir","enc":"A128GCM","crit":["exp"],"exp":1}`:                       ErrMalformed,
		`{"alg":"dir","alg":"ECDH-ES","enc":"A128GCM"}`:                              ErrMalformed,
		`{"alg":"ECDH-ES","enc":"A128GCM"}`:                                          ErrDecryption,
		`{"alg":"ECDH-ES","enc":"A128GCM","epk":{"kty":"EC","crv":"P-256"}}`:         ErrDecryption,
		`{"alg":"ECDH-ES","enc":"A128GCM","epk":"x"}`:                                ErrMalformed,
		`{"alg":"ECDH-ES","enc":"A128GCM","apu":"` + strings.Repeat("A", 600) + `"}`: ErrMalformed,
		`{"alg":"ECDH-ES","enc":"A128GCM","epk":` + offCurve + `}`:                   ErrDecryption,
		`{"alg":"ECDH-ES","enc":"A128GCM","a":` + strings.Repeat("[", 99) + `}`:      ErrMalformed,
		`{"alg":"A128GCMKW","enc":"A128GCM","iv":"AAAA","tag":"AAAA"}`:               ErrDecryption,
		`{"alg":"dir","enc":"A128GCM"}`:                                              ErrDecryption,
	} {
		token := forgeEncrypted(t, header)
		_, h, err := Decrypt(token, []*Decrypter{d}, all)
		if err == nil || strings.HasPrefix(string(h.Algorithm), "ECDH") && !errors.Is(err, want) {
			t.Errorf("%.60s: %v, want %v", header, err, want)
		}
		if _, _, err := DecryptSecret(token, SharedSecret("s"), all); err == nil || !strings.HasPrefix(string(h.Algorithm), "ECDH") && !errors.Is(err, want) {
			t.Errorf("%.60s: %v, want %v", header, err, want)
		}
	}
	if _, _, err := Decrypt(strings.Repeat("A", 1<<20)+"....", []*Decrypter{d}, all); !errors.Is(err, ErrMalformed) {
		t.Errorf("huge: %v", err)
	}
}

// A point that is not on P-256 would reveal the private key bit by bit.
const offCurve = `{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyN"}`

func TestJW18_KeysHaveOneUse(t *testing.T) {
	signer, err := NewSigner(ES256, "s", curveKey(t, elliptic.P256()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Encrypt(ECDHES, A128GCM, signer.Public(), Message{}); err == nil {
		t.Error("encrypted to a signing key")
	}
	key := curveKey(t, elliptic.P256())
	d := decrypter(t, "e", key)
	same, err := NewSigner(ES256, "e", key)
	if err != nil {
		t.Fatal(err)
	}
	token, err := same.Sign("", []byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := Verify(token, &KeySet{Keys: []JWK{d.Public()}}, anything); err == nil {
		t.Error("an encryption key verified a signature")
	}
	// A key with a use is preferred to one without.
	set := &KeySet{Keys: []JWK{{kid: "any", key: &key.PublicKey}, d.Public(), signer.Public()}}
	if to, ok := set.Recipient(ECDHESA128KW); !ok || to.KeyID() != "e" {
		t.Errorf("chose %+v", to)
	}
	if _, ok := set.Recipient(RSAOAEP); ok {
		t.Error("there is no RSA key")
	}
	for member, value := range map[string]string{"use": `"sig"`, "key_ops": `["verify"]`} {
		signs := keySet(t, `{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","`+member+`":`+value+`}`)
		if _, ok := signs.Recipient(ECDHES); ok || !signs.Keys[0].verifies(ES256) {
			t.Errorf("%s %s: %+v", member, value, signs.Keys)
		}
	}
	// A message with another kid is for another recipient.
	for kid, want := range map[string]bool{"e": true, "": true, "other": false} {
		to := JWK{kid: kid, key: &key.PublicKey}
		token, err := Encrypt(ECDHES, A128GCM, to, Message{Payload: []byte("{}")})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := Decrypt(token, []*Decrypter{d}, PublicKeyEncryptionAlgorithms()); (err == nil) != want {
			t.Errorf("kid %q: %v", kid, err)
		}
	}
}

func FuzzDecrypt(f *testing.F) {
	d := decrypter(f, "", curveKey(f, elliptic.P256()))
	secret := SharedSecret("secret")
	all := append(PublicKeyEncryptionAlgorithms(), SecretEncryptionAlgorithms()...)
	for _, alg := range []Algorithm{ECDHES, ECDHESA128KW} {
		token, err := Encrypt(alg, A128CBCHS256, d.Public(), Message{Payload: []byte("{}")})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(token)
	}
	for _, alg := range SecretEncryptionAlgorithms() {
		token, err := EncryptSecret(alg, A128GCM, secret, Message{Payload: []byte("{}")})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(token)
	}
	f.Fuzz(func(t *testing.T, token string) {
		for _, open := range []func() ([]byte, EncryptedHeader, error){
			func() ([]byte, EncryptedHeader, error) { return Decrypt(token, []*Decrypter{d}, all) },
			func() ([]byte, EncryptedHeader, error) { return DecryptSecret(token, secret, all) },
		} {
			if payload, _, err := open(); err == nil && string(payload) != "{}" {
				t.Errorf("%q was decrypted as %q", token, payload)
			}
		}
	})
}
