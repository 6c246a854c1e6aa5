package jose

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

var asymmetric = []Algorithm{ES256, ES384, ES512, RS256, PS256, EdDSA}

// anything accepts all algorithms and types.
var anything = Expected{Algorithms: append([]Algorithm{"none", "None", "nOnE", "RS1", "RS384", "ES256K", HS256, HS384, HS512}, asymmetric...)}

// signers returns a signer for each asymmetric algorithm, with the algorithm's name as kid.
// RS256 and PS256 share an RSA key, because generating one is slow.
var signers = sync.OnceValue(func() map[Algorithm]*Signer {
	made := map[Algorithm]*Signer{}
	for _, alg := range asymmetric {
		key, err := GenerateKey(alg)
		if alg == PS256 {
			key = made[RS256].key
		}
		if err != nil {
			panic(err)
		}
		if made[alg], err = NewSigner(alg, string(alg), key); err != nil {
			panic(err)
		}
	}
	return made
})

func publicKeys(algs ...Algorithm) *KeySet {
	set := &KeySet{}
	for _, alg := range algs {
		set.Keys = append(set.Keys, signers()[alg].Public())
	}
	return set
}

func sign(t testing.TB, alg Algorithm, typ, payload string) string {
	t.Helper()
	token, err := signers()[alg].Sign(typ, []byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// forge signs with the key of alg and the given header.
func forge(t testing.TB, alg Algorithm, header, payload string) string {
	t.Helper()
	input := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(payload))
	signature, err := signers()[alg].signature(t.Context(), nil, []byte(input))
	if err != nil {
		t.Fatal(err)
	}
	return input + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func TestSignedTokensVerify(t *testing.T) {
	published, err := json.Marshal(publicKeys(asymmetric...))
	if err != nil {
		t.Fatal(err)
	}
	keys, err := ParseKeySet(published)
	if err != nil {
		t.Fatal(err)
	}
	for _, alg := range asymmetric {
		for _, typ := range []string{"", "at+jwt"} {
			token := sign(t, alg, typ, `{"iss":"me"}`)
			payload, header, err := Verify(token, keys, Expected{Algorithms: []Algorithm{alg}, Types: []string{typ}})
			if err != nil || string(payload) != `{"iss":"me"}` || header != (Header{alg, string(alg), typ}) {
				t.Errorf("%s %q: got %q, %+v, %v", alg, typ, payload, header, err)
			}
		}
	}
}

func TestSignersAreSafeForConcurrentUse(t *testing.T) {
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for _, typ := range []string{"a", "b", ""} {
				token, err := signers()[ES256].Sign(typ, []byte(typ))
				if err != nil {
					t.Error(err)
					return
				}
				payload, header, err := Verify(token, publicKeys(ES256), anything)
				if err != nil || string(payload) != typ || header.Type != typ {
					t.Errorf("got %q, %+v, %v; want %q", payload, header, err, typ)
				}
			}
		})
	}
	wait.Wait()
}

func TestJW01_AlgNoneIsRefused(t *testing.T) {
	for _, alg := range []string{"none", "None", "nOnE", "NONE", ""} {
		unsigned := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"`+alg+`"}`)) + ".e30."
		if _, _, err := Verify(unsigned, publicKeys(asymmetric...), anything); err == nil {
			t.Errorf("%q: accepted without signature", alg)
		}
		if _, _, err := VerifySecret(unsigned, make([]byte, 64), anything); err == nil {
			t.Errorf("%q: accepted without signature with a secret", alg)
		}
		signed := forge(t, ES256, `{"alg":"`+alg+`"}`, "{}")
		if _, _, err := Verify(signed, publicKeys(ES256), anything); err == nil {
			t.Errorf("%q: accepted with a signature", alg)
		}
	}
}

func TestJW03_KeyIsUsedForItsOwnAlgorithmOnly(t *testing.T) {
	for _, signs := range asymmetric {
		for _, named := range append([]Algorithm{"RS1", "RS384", "PS512", "ES256K", HS256}, asymmetric...) {
			if named == signs {
				continue
			}
			token := forge(t, signs, `{"alg":"`+string(named)+`"}`, "{}")
			if _, _, err := Verify(token, publicKeys(signs), anything); err == nil {
				t.Errorf("key for %s accepted with %s", signs, named)
			}
		}
		other := asymmetric[(slices.Index(asymmetric, signs)+1)%len(asymmetric)]
		token := sign(t, signs, "", "{}")
		if _, _, err := Verify(token, publicKeys(signs), Expected{Algorithms: []Algorithm{other}}); !errors.Is(err, ErrAlgorithm) {
			t.Errorf("%s accepted where %s is required: %v", signs, other, err)
		}
	}
	// RSA can sign with both paddings; alg in the JWK decides.
	key := signers()[RS256].key
	asPSS, _ := NewSigner(PS256, "k", key)
	token, _ := asPSS.Sign("", []byte("{}"))
	pinned := &KeySet{Keys: []JWK{{kid: "k", alg: RS256, key: key.Public()}}}
	if _, _, err := Verify(token, pinned, anything); err == nil {
		t.Error("a key for RS256 verified PS256")
	}
	// Algorithm confusion: the public key as an HMAC secret.
	published, _ := signers()[RS256].Public().MarshalJSON()
	confused, _ := NewSecretSigner(HS256, published)
	token, _ = confused.Sign("", []byte("{}"))
	if _, _, err := Verify(token, publicKeys(asymmetric...), anything); err == nil {
		t.Error("HMAC with a public key was accepted")
	}
}

func TestJW03_SignerRejectsKeysOfAnotherAlgorithm(t *testing.T) {
	for _, has := range asymmetric {
		for _, named := range append([]Algorithm{"none", "", HS256}, asymmetric...) {
			_, err := NewSigner(named, "", signers()[has].key)
			fits := has == named || has == RS256 && named == PS256 || has == PS256 && named == RS256
			if (err == nil) != fits {
				t.Errorf("key for %s used with %s: %v", has, named, err)
			}
		}
	}
	if _, err := NewSigner(ES256, "", nil); err == nil {
		t.Error("a missing key was accepted")
	}
}

func TestJW04_KeysInTheHeaderAreNotTrusted(t *testing.T) {
	mine, _ := json.Marshal(signers()[ES256].Public())
	for _, header := range []string{
		`{"alg":"ES256","jwk":` + string(mine) + `}`,
		`{"alg":"ES256","jku":"http://127.0.0.1:1/keys"}`,
		`{"alg":"ES256","x5u":"http://127.0.0.1:1/cert"}`,
		`{"alg":"ES256","x5c":["MIIB"]}`,
	} {
		token := forge(t, ES256, header, "{}")
		other, _ := GenerateKey(ES256)
		keys := &KeySet{Keys: []JWK{{key: other.Public()}}}
		if _, _, err := Verify(token, keys, anything); !errors.Is(err, ErrSignature) {
			t.Errorf("%.30s: %v", header, err)
		}
	}
}

func TestJW05_MaliciousKeyIDs(t *testing.T) {
	for _, kid := range []string{
		`"../../../dev/null"`, `"' OR 1=1--"`, `"http://127.0.0.1/"`, `{"a":1}`, `[]`, `1`, `null`, `true`,
		`"` + strings.Repeat("k", 1<<20) + `"`, `"` + strings.Repeat("k", 600) + `"`,
	} {
		token := forge(t, ES256, `{"alg":"ES256","kid":`+kid+`}`, "{}")
		_, _, err := Verify(token, publicKeys(ES256), anything)
		if err == nil {
			t.Errorf("%.20s accepted", kid)
		} else if len(err.Error()) > 100 {
			t.Errorf("%.20s: the error contains it", kid)
		}
	}
	if _, _, err := Verify(forge(t, ES256, `{"alg":"ES256","kid":"other"}`, "{}"), publicKeys(ES256), anything); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("a kid that is not in the set: %v", err)
	}
}

func TestJW07_CriticalHeadersAreRefused(t *testing.T) {
	for _, member := range []string{
		`"crit":["exp2"],"exp2":1`, `"crit":["b64"],"b64":false`, `"crit":[]`, `"crit":null`, `"crit":["absent"]`,
		`"crit":["alg"]`, `"b64":false`, `"b64":true`,
	} {
		token := forge(t, ES256, `{"alg":"ES256",`+member+`}`, "{}")
		if _, _, err := Verify(token, publicKeys(ES256), anything); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", member, err)
		}
	}
}

func TestJW08_DuplicateHeaderMembersAreRefused(t *testing.T) {
	for _, header := range []string{
		`{"alg":"none","alg":"ES256"}`, `{"alg":"ES256","\u0061lg":"ES256"}`, `{"alg":"ES256","x":{"a":1,"a":2}}`,
		`{"Alg":"ES256"}`, `{"ALG":"ES256"}`, `{"alg":"ES256"}{}`, `null`, `[]`, `"ES256"`, ``, `{"alg":["ES256"]}`,
		`{"alg":"ES256","typ":1}`,
	} {
		if _, _, err := Verify(forge(t, ES256, header, "{}"), publicKeys(ES256), anything); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", header, err)
		}
	}
	if _, h, err := Verify(forge(t, ES256, `{"alg":"ES256","Kid":"x","Typ":"y"}`, "{}"), publicKeys(ES256), anything); err != nil || h.KeyID != "" || h.Type != "" {
		t.Errorf("names are case-insensitive: %+v, %v", h, err)
	}
}

func TestJW09_NonCanonicalBase64IsRejected(t *testing.T) {
	token := sign(t, ES256, "", "{}")
	header, rest, _ := strings.Cut(token, ".")
	payload, signature, _ := strings.Cut(rest, ".")
	// 64 bytes of signature leave four unused bits in the last character.
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, signature[len(signature)-1])
	for bits := 1; bits < 16; bits++ {
		varied := token[:len(token)-1] + string(alphabet[last|bits])
		if _, _, err := Verify(varied, publicKeys(ES256), anything); !errors.Is(err, ErrMalformed) {
			t.Errorf("unused bits %b: %v", bits, err)
		}
	}
	for _, varied := range []string{
		token + "=", token + "==", token + "\n", token + " ", " " + token, "\r\n" + token,
		header + "\n." + payload + "." + signature, header + "." + payload + "\r." + signature,
		header + "=." + payload + "." + signature, header + "." + payload + "." + strings.NewReplacer("-", "+", "_", "/").Replace(signature) + "+",
		"Bearer " + token, token + "\x00",
	} {
		if _, _, err := Verify(varied, publicKeys(ES256), anything); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %v", varied, err)
		}
	}
}

func TestJW10_OnlyCompactSerializationIsAccepted(t *testing.T) {
	token := sign(t, ES256, "", "{}")
	p := strings.Split(token, ".")
	for _, other := range []string{
		`{"protected":"` + p[0] + `","payload":"` + p[1] + `","signature":"` + p[2] + `"}`,
		`{"payload":"` + p[1] + `","signatures":[{"protected":"` + p[0] + `","signature":"` + p[2] + `"}]}`,
		token + "." + p[2], p[0] + "." + p[1], p[0], "", ".", "..", "...", "....", token + ".",
	} {
		if _, _, err := Verify(other, publicKeys(ES256), anything); !errors.Is(err, ErrMalformed) {
			t.Errorf("%.40s: %v", other, err)
		}
	}
}

func TestJW11_BadECDSASignatures(t *testing.T) {
	token := sign(t, ES256, "", "{}")
	input := token[:strings.LastIndexByte(token, '.')]
	good := decoded(t, token[len(input)+1:])
	order := elliptic.P256().Params().N.Bytes()
	r, s := good[:32], good[32:]
	der, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(r), new(big.Int).SetBytes(s)})
	if err != nil {
		t.Fatal(err)
	}
	zero := make([]byte, 32)
	for name, signature := range map[string][]byte{
		"both zero": make([]byte, 64), "r zero": slices.Concat(zero, s), "s zero": slices.Concat(r, zero),
		"r = n": slices.Concat(order, s), "s = n": slices.Concat(r, order), "both n": slices.Concat(order, order),
		"all ones": slices.Repeat([]byte{0xff}, 64), "DER": der, "empty": {}, "short": good[:63],
		"long": slices.Concat(good, []byte{0}), "padded": slices.Concat([]byte{0}, r, []byte{0}, s),
	} {
		varied := input + "." + base64.RawURLEncoding.EncodeToString(signature)
		if _, _, err := Verify(varied, publicKeys(ES256), anything); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestJW12_PSSSaltHasTheLengthOfTheHash(t *testing.T) {
	key := signers()[PS256].key.(*rsa.PrivateKey)
	token := sign(t, PS256, "", "{}")
	input := token[:strings.LastIndexByte(token, '.')]
	for _, salt := range []int{0, 20, 31, 32, 33, 64} {
		signature, err := rsa.SignPSS(rand.Reader, key, crypto.SHA256, digest(PS256, []byte(input)), &rsa.PSSOptions{SaltLength: salt})
		if salt == 0 { // crypto/rsa uses it for "as long as possible"
			signature, err = rsa.SignPSS(rand.Reader, key, crypto.SHA256, digest(PS256, []byte(input)), &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto})
		}
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = Verify(input+"."+base64.RawURLEncoding.EncodeToString(signature), publicKeys(PS256), anything)
		if (err == nil) != (salt == 32) {
			t.Errorf("salt of %d bytes: %v", salt, err)
		}
	}
	if err := rsa.VerifyPSS(&key.PublicKey, crypto.SHA256, digest(PS256, []byte(input)), decoded(t, token[len(input)+1:]), &rsa.PSSOptions{SaltLength: 32}); err != nil {
		t.Errorf("signatures of Sign have another salt: %v", err)
	}
}

func TestJW20_HugeTokensAreRejectedCheaply(t *testing.T) {
	for name, token := range map[string]string{
		"dots":    strings.Repeat(".", 1<<20),
		"header":  strings.Repeat("A", 1<<20) + ".e30.AA",
		"payload": "e30." + strings.Repeat("A", 1<<20) + ".AA",
		"nested":  base64.RawURLEncoding.EncodeToString([]byte(strings.Repeat("[", 10_000))) + ".e30.AA",
		"signed":  sign(t, ES256, "", strings.Repeat("x", 16<<10)),
		"objects": base64.RawURLEncoding.EncodeToString([]byte(`{"alg":`+strings.Repeat(`{"a":`, 2000))) + ".e30.AA",
	} {
		keys := publicKeys(ES256)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _, err := Verify(token, keys, anything)
		runtime.ReadMemStats(&after)
		if !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
		bytes := after.TotalAlloc - before.TotalAlloc
		if bytes > 2*uint64(len(token)) {
			t.Errorf("%s: %d bytes allocated for a token of %d", name, bytes, len(token))
		}
	}
}

func TestTypes(t *testing.T) {
	for _, test := range []struct {
		typ   string
		types []string
		want  bool
	}{
		{"at+jwt", []string{"at+jwt"}, true},
		{"AT+JWT", []string{"at+jwt"}, true},
		{"application/at+jwt", []string{"at+jwt"}, true},
		{"Application/At+Jwt", []string{"at+jwt"}, true},
		{"at+jwt", []string{"application/at+jwt"}, true},
		{"JWT", []string{"at+jwt"}, false},
		{"", []string{"at+jwt"}, false},
		{"", []string{"JWT", ""}, true},
		{"logout+jwt", []string{"JWT", ""}, false},
		{"at+jwt ", []string{"at+jwt"}, false},
		{"application/", []string{""}, false},
		{"text/at+jwt", []string{"at+jwt"}, false},
		{"whatever", nil, true},
		{"whatever", []string{}, false},
	} {
		_, _, err := Verify(sign(t, ES256, test.typ, "{}"), publicKeys(ES256), Expected{Algorithms: asymmetric, Types: test.types})
		if (err == nil) != test.want {
			t.Errorf("typ %q, accepted %q: %v", test.typ, test.types, err)
		}
	}
}

func TestVerifyWithoutAlgorithmsOrKeysFails(t *testing.T) {
	token := sign(t, ES256, "", "{}")
	for name, keys := range map[string]*KeySet{"nil": nil, "empty": {}, "zero key": {Keys: []JWK{{}, {kid: "ES256"}}}} {
		if _, _, err := Verify(token, keys, anything); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, _, err := Verify(token, publicKeys(ES256), Expected{}); err == nil {
		t.Error("accepted although no algorithm is accepted")
	}
}

func TestSecrets(t *testing.T) {
	for alg, size := range map[Algorithm]int{HS256: 32, HS384: 48, HS512: 64} {
		secret := make([]byte, size)
		_, _ = rand.Read(secret)
		if _, err := NewSecretSigner(alg, secret[1:]); err == nil {
			t.Errorf("%s signs with %d bytes (RFC 7518, section 3.2)", alg, size-1)
		}
		signer, err := NewSecretSigner(alg, secret)
		if err != nil {
			t.Fatal(err)
		}
		token, err := signer.Sign("x", []byte("{}"))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := VerifySecret(token, secret, Expected{Algorithms: []Algorithm{alg}}); err != nil {
			t.Errorf("%s: %v", alg, err)
		}
		other := slices.Clone(secret)
		other[0]++
		for name, wrong := range map[string][]byte{"another": other, "shorter": secret[1:], "empty": nil} {
			if _, _, err := VerifySecret(token, wrong, anything); err == nil {
				t.Errorf("%s: %s secret accepted", alg, name)
			}
		}
		if _, _, err := Verify(token, publicKeys(asymmetric...), anything); err == nil {
			t.Errorf("%s: accepted by a set of public keys", alg)
		}
	}
	// A short secret can be guessed from one token, so even a correct MAC is rejected.
	weak := []byte("secret")
	input := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256"}`)) + ".e30"
	mac := hmac.New(sha256.New, weak)
	mac.Write([]byte(input))
	if _, _, err := VerifySecret(input+"."+base64.RawURLEncoding.EncodeToString(mac.Sum(nil)), weak, anything); !errors.Is(err, ErrAlgorithm) {
		t.Errorf("a secret of %d bytes: %v", len(weak), err)
	}
	if _, err := NewSecretSigner(ES256, make([]byte, 64)); err == nil {
		t.Error("ES256 with a secret")
	}
}

func TestPrivateKeysRoundTrip(t *testing.T) {
	for alg, signer := range signers() {
		der, err := MarshalPrivateKey(signer.key)
		if err != nil {
			t.Fatal(err)
		}
		key, err := ParsePrivateKey(der)
		if err != nil {
			t.Fatal(err)
		}
		again, err := NewSigner(alg, string(alg), key)
		if err != nil {
			t.Fatal(err)
		}
		token, err := again.Sign("", []byte("{}"))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := Verify(token, publicKeys(alg), anything); err != nil {
			t.Errorf("%s: %v", alg, err)
		}
	}
	if _, err := ParsePrivateKey([]byte("not a key")); err == nil {
		t.Error("garbage was parsed as a key")
	}
}

func TestUnverifiedReaders(t *testing.T) {
	token := sign(t, ES256, "at+jwt", `{"iss":"me"}`)
	header, err := ParseHeader(token)
	if err != nil || header != (Header{ES256, "ES256", "at+jwt"}) {
		t.Errorf("got %+v, %v", header, err)
	}
	payload, err := UnverifiedPayload(token)
	if err != nil || string(payload) != `{"iss":"me"}` {
		t.Errorf("got %q, %v", payload, err)
	}
	for _, bad := range []string{token + "=", token + ".", forge(t, ES256, `{"alg":"ES256","crit":["x"]}`, "{}")} {
		if _, err := ParseHeader(bad); err == nil {
			t.Errorf("ParseHeader accepted %.20s", bad)
		}
		if _, err := UnverifiedPayload(bad); err == nil {
			t.Errorf("UnverifiedPayload accepted %.20s", bad)
		}
	}
}

func BenchmarkSignES256(b *testing.B) {
	key, _ := GenerateKey(ES256)
	signer, _ := NewSigner(ES256, "kid", key)
	payload := make([]byte, 400)
	b.Run("Signer", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = signer.Sign("at+jwt", payload)
		}
	})
	b.Run("crypto/ecdsa", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = ecdsa.SignASN1(rand.Reader, key.(*ecdsa.PrivateKey), digest(ES256, payload))
		}
	})
}

func BenchmarkVerifyES256(b *testing.B) {
	token := sign(b, ES256, "at+jwt", `{"iss":"https://login.example.com"}`)
	keys := publicKeys(ES256)
	b.ReportAllocs()
	for b.Loop() {
		_, _, _ = Verify(token, keys, anything)
	}
}
