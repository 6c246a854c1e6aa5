package jose

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"math/big"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// remoteKey is a key of unknown type, like one in a key management service.
type remoteKey struct {
	crypto.Signer
	change func(signature []byte) []byte
}

func (k remoteKey) Sign(random io.Reader, digest []byte, options crypto.SignerOpts) ([]byte, error) {
	signature, err := k.Signer.Sign(random, digest, options)
	if k.change != nil {
		signature = k.change(signature)
	}
	return signature, err
}

type remoteContextKey struct {
	crypto.Signer
	seen *context.Context
}

func (k remoteContextKey) SignContext(ctx context.Context, random io.Reader, digest []byte, options crypto.SignerOpts) ([]byte, error) {
	*k.seen = ctx
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return k.Sign(random, digest, options)
}

func TestRemoteKeysSign(t *testing.T) {
	for _, alg := range asymmetric {
		signer, err := NewSigner(alg, string(alg), remoteKey{Signer: signers()[alg].key})
		if err != nil {
			t.Errorf("%s: %v", alg, err)
			continue
		}
		for range 20 { // r and s are sometimes shorter
			token, err := signer.Sign("x", []byte("{}"))
			if err != nil {
				t.Fatalf("%s: %v", alg, err)
			}
			if _, _, err := Verify(token, publicKeys(asymmetric...), Expected{Algorithms: []Algorithm{alg}}); err != nil {
				t.Fatalf("%s: %v", alg, err)
			}
			if strings.HasPrefix(string(alg), "RS") || strings.HasPrefix(string(alg), "PS") {
				break // slow
			}
		}
	}
}

func TestRemoteKeysGetTheContext(t *testing.T) {
	var seen context.Context
	signer, err := NewSigner(ES256, "k", remoteContextKey{signers()[ES256].key, &seen})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := signer.SignContext(ctx, "x", []byte("{}")); err != nil || seen != ctx {
		t.Errorf("error %v; got the caller's context: %v", err, seen == ctx)
	}
	cancel()
	if _, err := signer.SignContext(ctx, "x", []byte("{}")); !errors.Is(err, context.Canceled) {
		t.Errorf("after the context is done: %v", err)
	}
}

func TestInvalidRemoteSignaturesAreNotReturned(t *testing.T) {
	other, err := GenerateKey(ES256)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func([]byte) []byte{
		"nothing":        func([]byte) []byte { return nil },
		"not ASN.1":      func([]byte) []byte { return make([]byte, 64) },
		"trailing bytes": func(s []byte) []byte { return append(s, 0) },
		"another key's": func([]byte) []byte {
			signature, err := other.Sign(rand.Reader, make([]byte, 32), crypto.SHA256)
			if err != nil {
				t.Fatal(err)
			}
			return signature
		},
	} {
		signer, err := NewSigner(ES256, "k", remoteKey{signers()[ES256].key, change})
		if err != nil {
			t.Fatal(err)
		}
		if token, err := signer.Sign("x", []byte("{}")); err == nil {
			t.Errorf("%s: returned %s", name, token)
		}
	}
}

func TestTruncatedHMACsAreRejected(t *testing.T) {
	secret := make([]byte, 32)
	signer, err := NewSecretSigner(HS256, secret)
	if err != nil {
		t.Fatal(err)
	}
	token, err := signer.Sign("", []byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	input := token[:strings.LastIndexByte(token, '.')+1]
	mac := decoded(t, token[len(input):])
	for _, size := range []int{0, 1, 16, 31} {
		short := input + base64.RawURLEncoding.EncodeToString(mac[:size])
		if _, _, err := VerifySecret(short, secret, anything); !errors.Is(err, ErrSignature) {
			t.Errorf("the first %d bytes: %v", size, err)
		}
	}
	for name, signature := range map[string][]byte{"a byte more": append(mac[:32:32], 0), "all zero": make([]byte, 32)} {
		if _, _, err := VerifySecret(input+base64.RawURLEncoding.EncodeToString(signature), secret, anything); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// r and s have a fixed width (RFC 7518, section 3.4), so a signature with a leading zero is
// not valid.
func TestECDSASignaturesHaveAFixedLength(t *testing.T) {
	token := sign(t, ES256, "", "{}")
	input := token[:strings.LastIndexByte(token, '.')+1]
	good := decoded(t, token[len(input):])
	r, s := good[:32:32], good[32:64:64]
	for name, signature := range map[string][]byte{
		"leading zero of s": append(append(r, 0), s...),
		"leading zero of r": append([]byte{0}, good...),
		"trailing zero":     append(good[:64:64], 0),
		"trailing copy":     append(good[:64:64], good...),
		"trailing garbage":  append(good[:64:64], 1, 2, 3),
	} {
		if _, _, err := Verify(input+base64.RawURLEncoding.EncodeToString(signature), publicKeys(ES256), anything); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRSAKeySizeIsChecked(t *testing.T) {
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	for _, alg := range []Algorithm{RS256, PS256} {
		if _, err := NewSigner(alg, "k", weak); err == nil {
			t.Errorf("%s signs with 1024 bits", alg)
		}
		forged := &Signer{alg: alg, kid: "k", key: weak, public: JWK{kid: "k", key: &weak.PublicKey}}
		token, err := forged.Sign("", []byte("{}"))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := Verify(token, &KeySet{Keys: []JWK{forged.public}}, anything); err == nil {
			t.Errorf("%s: 1024 bits verify", alg)
		}
	}
	if _, err := NewDecrypter("k", weak); err == nil {
		t.Error("1024 bits decrypt")
	}
	if _, err := Encrypt(RSAOAEP, A128GCM, JWK{kid: "k", key: &weak.PublicKey}, Message{}); err == nil {
		t.Error("a message was encrypted to 1024 bits")
	}
	for bits, want := range map[uint]bool{2047: false, 2048: true, 4096: true, 8192: true, 8193: false, 16384: false} {
		n := new(big.Int).Lsh(big.NewInt(1), bits-1)
		key := &rsa.PublicKey{N: n.SetBit(n, 0, 1), E: 65537}
		for _, alg := range []Algorithm{RS256, RS512, PS256} {
			if got := (JWK{key: key}).verifies(alg); got != want {
				t.Errorf("%s with %d bits: %v", alg, bits, got)
			}
		}
		for _, alg := range []Algorithm{RSAOAEP, RSAOAEP256} {
			if got := (JWK{key: key}).encrypts(alg); got != want {
				t.Errorf("%s with %d bits: %v", alg, bits, got)
			}
		}
	}
}

// The encrypted key of direct encryption must be empty (RFC 7516, section 5.2). It is not
// authenticated, so otherwise a token could have many encodings.
func TestDirectEncryptionHasNoEncryptedKey(t *testing.T) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	d := decrypter(t, "k", private)
	agreed, err := Encrypt(ECDHES, A128GCM, d.Public(), Message{Payload: []byte("{}")})
	if err != nil {
		t.Fatal(err)
	}
	shared, err := EncryptSecret(Direct, A128GCM, SharedSecret("secret"), Message{Payload: []byte("{}")})
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		token string
		open  func(string) error
	}{
		"ECDH-ES": {agreed, func(token string) error {
			_, _, err := Decrypt(token, []*Decrypter{d}, PublicKeyEncryptionAlgorithms())
			return err
		}},
		"dir": {shared, func(token string) error {
			_, _, err := DecryptSecret(token, SharedSecret("secret"), SecretEncryptionAlgorithms())
			return err
		}},
	} {
		if err := test.open(test.token); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		parts := strings.Split(test.token, ".")
		for _, key := range []string{"AA", base64.RawURLEncoding.EncodeToString(make([]byte, 24))} {
			parts[1] = key
			if err := test.open(strings.Join(parts, ".")); err == nil {
				t.Errorf("%s with the encrypted key %s: decrypted", name, key)
			}
		}
	}
}

func TestSignaturesOfCryptoECDSAAreJoined(t *testing.T) {
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 600 { // r or s is shorter in one of 128
			encoded, err := ecdsa.SignASN1(rand.Reader, key, []byte{byte(i), byte(i >> 8)})
			if err != nil {
				t.Fatal(err)
			}
			var pair struct{ R, S *big.Int }
			if _, err := asn1.Unmarshal(encoded, &pair); err != nil {
				t.Fatal(err)
			}
			want, err := joined(&key.PublicKey, pair.R, pair.S)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := appendJoined([]byte("x"), encoded, len(want)/2); err != nil || string(got) != "x"+string(want) {
				t.Fatalf("%x: got %x, want %x, error %v", encoded, got, want, err)
			}
		}
	}
	for _, bad := range []string{
		"", "30", "3000", "3003020101", "30060201010201", "300602010102010100", "3009020101020101020101", "31060201010201 01", "300602010002 0101",
		"3006020101030101", "3081", "308100", "3080020101020101", "300602020101 0201", "30820006020101020101", "3008020300010102 0101",
	} {
		encoded, err := hex.DecodeString(strings.ReplaceAll(bad, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := appendJoined(nil, encoded, 1); err == nil {
			t.Errorf("%s: returned %x", bad, got)
		}
	}
}

// The example of RFC 6979, appendix A.2.5.
func TestECDSASignaturesAreDeterministic(t *testing.T) {
	d, err := hex.DecodeString("C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721")
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), d)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := NewSigner(ES256, "", key)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := signer.signature(t.Context(), nil, []byte("sample"))
	const want = "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8"
	if got := hex.EncodeToString(signature); err != nil || got != want {
		t.Errorf("got %s, %v", got, err)
	}
}

// Buffers are used again. A token must not contain a part of another one.
func TestConcurrentTokensDoNotMix(t *testing.T) {
	signer := signers()[ES256]
	var callers sync.WaitGroup
	for caller := range 8 {
		callers.Go(func() {
			for i := range 60 {
				payload := `{"secret":"` + strings.Repeat(string(rune('a'+caller)), 1+(i*977)%12000) + `"}`
				token, err := signer.Sign("JWT", []byte(payload))
				if err != nil {
					t.Error(err)
					return
				}
				runtime.Gosched()
				header, rest, _ := strings.Cut(token, ".")
				body, signature, _ := strings.Cut(rest, ".")
				if got, err := base64.RawURLEncoding.DecodeString(body); err != nil || string(got) != payload {
					t.Errorf("caller %d: the payload is not its own", caller)
				}
				if len(signature) != 86 || !strings.HasPrefix(header, "ey") {
					t.Errorf("caller %d: header %s, signature %s", caller, header, signature)
				}
			}
		})
	}
	callers.Wait()
}
