package jose

import (
	"errors"
	"strings"
	"testing"
)

// One bad key must not make a provider's other keys unusable.
func TestBadKeysOfAPublishedSetAreSkipped(t *testing.T) {
	good := with(t, ES256, nil)
	token := sign(t, ES256, "", "{}")
	for name, odd := range map[string]string{
		"private material": with(t, ES384, map[string]any{"d": "AAAA"}),
		"a symmetric key":  `{"kty":"oct","kid":"s","k":"AAAA"}`,
		"a number":         `7`,
		"null":             `null`,
		"a member twice":   `{"kty":"EC","kty":"EC"}`,
		"an unknown type":  `{"kty":"AKP","alg":"ML-DSA-44","pub":"AA"}`,
		"an invalid point": with(t, ES384, map[string]any{"x": "AA"}),
		"a number for alg": with(t, ES384, map[string]any{"alg": 7}),
	} {
		set, err := ParsePublishedKeySet([]byte(`{"keys":[` + odd + `,` + good + `]}`))
		if err != nil || len(set.Keys) != 1 {
			t.Errorf("%s: %v, %+v", name, err, set)
			continue
		}
		if _, _, err := Verify(token, set, anything); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Anybody can use a private key that was published.
func TestPublishedPrivateKeysVerifyNothing(t *testing.T) {
	set, err := ParsePublishedKeySet([]byte(`{"keys":[` + with(t, ES256, map[string]any{"d": "AAAA"}) + `,` + with(t, ES384, nil) + `]}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := Verify(sign(t, ES256, "", "{}"), set, anything); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("got %v", err)
	}
}

func TestPublishedKeysWithTheSameKidAreAllTried(t *testing.T) {
	second, err := GenerateKey(ES256)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := NewSigner(ES256, "ES256", second)
	if err != nil {
		t.Fatal(err)
	}
	other, err := signer.Public().MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	set, err := ParsePublishedKeySet([]byte(`{"keys":[` + string(other) + `,` + with(t, ES256, nil) + `]}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := Verify(sign(t, ES256, "", "{}"), set, anything); err != nil {
		t.Error(err)
	}
}

func TestPublishedSetsAreLimited(t *testing.T) {
	for name, document := range map[string]string{
		"101 keys":          `{"keys":[` + strings.Repeat(`{},`, 100) + `{}]}`,
		"more than 512 kB":  `{"keys":[],"x":"` + strings.Repeat("x", 512<<10) + `"}`,
		"no keys":           `{}`,
		"keys is an object": `{"keys":{}}`,
		"not a JSON object": `[]`,
		"keys occurs twice": `{"keys":[],"keys":[]}`,
		"deep":              `{"keys":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + `}`,
		"empty document":    ``,
		"no usable key":     `{"keys":[{"kty":"oct","k":"AA"}]}`,
	} {
		if _, err := ParsePublishedKeySet([]byte(document)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
