package authserver

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/oauth"
)

func codeServer(tb testing.TB) *Server {
	s := &Server{config: Config{Issuer: "https://login.example.com"}}
	var err error
	if s.codeKey, err = deriveKey(bytes.Repeat([]byte{7}, 32), "valetkey authorization code"); err != nil {
		tb.Fatal(err)
	}
	return s
}

// typicalCode is the authorization of a web application with OpenID Connect, as package identity and
// package client create them.
func typicalCode() *authorization {
	now := time.Date(2026, 11, 26, 21, 30, 0, 0, time.UTC)
	return &authorization{
		ClientID: "client-8Wq0c1Yv3kTn5bXz7dPf9g", Subject: "m3XzT0nqQ7uVwR5yK2sLbA", Grant: "pB7hY4cWq9ZkD1xN6vTjEg", Family: newFamily(now),
		Scope: oauth.Scope{"openid", "profile", "email", "offline_access"}, Audience: []string{}, Session: "Uk9yT2wQe8RzX4vB1nMcLg",
		AuthTime: now.Add(-3 * time.Hour).Unix(), ACR: "1", AMR: []string{"pwd"}, Started: now.Unix(), Issued: now.UnixMilli(),
		Code: &codeBinding{
			RedirectURI: "https://app.example.com/auth/callback", RedirectURISent: true,
			CodeChallenge: oauth.S256Challenge(strings.Repeat("v", 43)), Nonce: "n3sK8dQw5ZxT1vB7yLpRcMg0hJf2aXuE4iVoWq6tNzk", Expires: now.Add(time.Minute).UnixMilli(),
		},
	}
}

// fillRandom sets every field of a value to something random.
func fillRandom(v reflect.Value, depth int) {
	if v.Type() == reflect.TypeFor[json.RawMessage]() {
		v.SetBytes([]byte(`{"a":1}`))
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fillRandom(v.Elem(), depth)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fillRandom(v.Field(i), depth)
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), rand.IntN(4), 4))
		for i := range v.Len() {
			fillRandom(v.Index(i), depth)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		if depth < 3 {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fillRandom(key, depth+1)
			fillRandom(value, depth+1)
			v.SetMapIndex(key, value)
		}
	case reflect.Interface:
		v.Set(reflect.ValueOf("any"))
	case reflect.String:
		texts := []string{"x", "openid", "a text with spaces ✓", "https://client.example.com/cb?a=b", "m3XzT0nqQ7uVwR5yK2sLbA", "AB", "line\nbreak", "\r\n\r\n"}
		v.SetString(texts[rand.IntN(len(texts))])
	case reflect.Int64, reflect.Int:
		v.SetInt(rand.Int64() - 1<<62)
	case reflect.Bool:
		v.SetBool(rand.IntN(2) == 0)
	}
}

// Every member of an authorization survives in a sealed code, also one that is added later.
func TestSealedCodesContainTheWholeAuthorization(t *testing.T) {
	for range 2000 {
		var a authorization
		fillRandom(reflect.ValueOf(&a).Elem(), 0)
		if rand.IntN(2) == 0 {
			a.Claims, a.ClaimsLocales, a.Extra, a.Confirmation, a.Opaque, a.Other = nil, nil, nil, nil, nil, ""
		}
		plain, err := encodeSealed(a)
		if err != nil {
			t.Fatal(err)
		}
		b, err := decodeSealed(plain)
		if err != nil {
			t.Fatal(err)
		}
		// JSON is how a stored code keeps an authorization.
		before, _ := json.Marshal(&a)
		after, _ := json.Marshal(&b)
		if !bytes.Equal(before, after) || (a.Audience == nil) != (b.Audience == nil) {
			t.Fatalf("got %s\nwant %s", after, before)
		}
	}
}

// A typical code is well below the limit. Time and checksum are in plain form, as in all secrets.
func TestLengthOfSealedCodes(t *testing.T) {
	s := codeServer(t)
	a := typicalCode()
	code, err := s.sealCode(*a)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("a typical code has %d characters", len(code))
	if len(code) > 420 || !isSealedCode(code) || !strings.HasPrefix(code, prefixCode) || !hasChecksum(code) {
		t.Errorf("%d characters: %s", len(code), code)
	}
	if later, _ := s.sealCode(*a); later[:11] != code[:11] || later == code {
		t.Errorf("two codes of the same second: %s and %s", code, later)
	}
	if strings.Contains(code, "app.example.com") {
		t.Error("the code is not encrypted")
	}
}

// Keys of sealed codes change with time.
func TestCodeKeysChange(t *testing.T) {
	s := codeServer(t)
	plain := []byte("plain")
	first, err := s.codeCipher(0)
	if err != nil {
		t.Fatal(err)
	}
	sealed := first.aead.Seal(nil, nil, plain, nil)
	for unix, same := range map[uint32]bool{1<<16 - 1: true, 1 << 16: false, 1 << 31: false} {
		by, err := s.codeCipher(unix)
		if err != nil {
			t.Fatal(err)
		}
		s.latestCodeCipher.Store(by)
		if _, err := by.aead.Open(nil, nil, sealed, nil); (err == nil) != same {
			t.Errorf("the key after %d seconds is the same: %v", unix, err == nil)
		}
	}
}

// No input is opened that this server has not sealed. The fuzzer's processes share the key, and each
// seals a code, so that an input may be the code of another process.
func FuzzOpenCode(f *testing.F) {
	s := codeServer(f)
	code, err := s.sealCode(*typicalCode())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(code)
	f.Add("vk_ac_SplxlOBeZQQYbYS6WxSbIA")
	f.Add("")
	want, err := s.openCode(code)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, input string) {
		body := prefixCode + input
		for _, code := range []string{input, string(appendChecksum([]byte(body)))} {
			opened, err := s.openCode(code)
			opened.Family = want.Family // random in each process
			if err == nil && !reflect.DeepEqual(opened, want) {
				t.Errorf("%q was opened", code)
			}
		}
	})
}

// What decodes can be encoded again, and then decodes to the same.
func FuzzDecodeSealed(f *testing.F) {
	for _, a := range []*authorization{typicalCode(), {Code: &codeBinding{}}, {ClientID: "app", Other: "x", Extra: oauth.Claims{"a": "b"}, Code: &codeBinding{Nonce: "n"}}} {
		plain, err := encodeSealed(*a)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(plain)
	}
	f.Fuzz(func(t *testing.T, plain []byte) {
		a, err := decodeSealed(plain)
		if err != nil {
			return
		}
		again, err := encodeSealed(a)
		if err != nil {
			t.Fatal(err)
		}
		b, err := decodeSealed(again)
		if err != nil {
			t.Fatal(err)
		}
		before, _ := json.Marshal(&a)
		after, _ := json.Marshal(&b)
		if !bytes.Equal(before, after) {
			t.Errorf("%s became %s", before, after)
		}
	})
}

func BenchmarkSealedCode(b *testing.B) {
	s := codeServer(b)
	a := typicalCode()
	code, err := s.sealCode(*a)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("seal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := s.sealCode(*a); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("open", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := s.openCode(code); err != nil {
				b.Fatal(err)
			}
		}
	})
}
