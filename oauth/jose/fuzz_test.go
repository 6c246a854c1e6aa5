package jose

import (
	"encoding/json"
	"strings"
	"testing"
)

func tokenSeeds(f *testing.F) {
	for _, token := range []string{
		a1Token, a2Token, a3Token, a4Token, edToken, "", "..", "....", "e30.e30.AA", "eyJhbGciOiJub25lIn0.e30.",
		sign(f, PS256, "at+jwt", `{"aud":["a"]}`),
	} {
		f.Add(token)
	}
}

// A token that is accepted must have the canonical encoding.
func FuzzParseHeader(f *testing.F) {
	tokenSeeds(f)
	f.Fuzz(func(t *testing.T, token string) {
		header, err := ParseHeader(token)
		if err != nil {
			return
		}
		if header.Algorithm == "" || strings.Count(token, ".") != 2 || strings.ContainsAny(token, "=+/ \r\n") {
			t.Errorf("accepted %q", token)
		}
		if _, err := UnverifiedPayload(token); err != nil {
			t.Errorf("the header was parsed, but not the payload: %v", err)
		}
	})
}

// Only the signed token is valid.
func FuzzVerify(f *testing.F) {
	tokenSeeds(f)
	set, err := ParseKeySet([]byte(`{"keys":[` + a2Key + `,` + a3Key + `,` + a4Key + `,` + edKey + `]}`))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, token string) {
		if _, _, err := Verify(token, set, anything); err == nil &&
			token != a2Token && token != a3Token && token != a4Token && token != edToken {
			t.Errorf("accepted %q", token)
		}
	})
}

// The keys of an accepted set can be encoded and parsed again.
func FuzzParseKeySet(f *testing.F) {
	for _, member := range []string{a2Key, a3Key, a4Key, edKey, `{"kty":"oct","k":"AA"}`, `{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}`, `1`} {
		f.Add([]byte(`{"keys":[` + member + `]}`))
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		set, err := ParseKeySet(document)
		if err != nil {
			return
		}
		published, err := json.Marshal(set)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseKeySet(published)
		if err != nil || len(again.Keys) != len(set.Keys) {
			t.Fatalf("%d keys became %v, %v", len(set.Keys), again, err)
		}
		for i, key := range again.Keys {
			if key.Thumbprint() != set.Keys[i].Thumbprint() {
				t.Errorf("key %d changed", i)
			}
		}
	})
}

func FuzzParseClaims(f *testing.F) {
	for _, payload := range []string{joe, `{}`, `{"aud":["a","b"],"exp":1e9}`, `{"sub":"a","sub":"b"}`, `[[[[`, `{"exp":1e400}`} {
		f.Add([]byte(payload))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		var all map[string]any
		claims, err := ParseClaims(payload, &all)
		if err != nil {
			return
		}
		if all == nil {
			t.Errorf("accepted %q, which is not an object", payload)
		}
		for _, at := range []int64{claims.Expires.Unix(), claims.NotBefore.Unix(), claims.IssuedAt.Unix()} {
			if at > maxNumericDate {
				t.Errorf("a time beyond the year 9999: %d", at)
			}
		}
	})
}
