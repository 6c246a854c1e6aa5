package wycheproof

import (
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"slices"
	"testing"

	"github.com/c2sp/wycheproof"
	gojose "github.com/go-jose/go-jose/v4"
	"github.com/valetkey/valetkey/oauth/jose"
)

func TestJSONWebEncryptionVectors(t *testing.T) {
	b, err := fs.ReadFile(wycheproof.TestVectors, "json_web_encryption_test.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		TestGroups []struct {
			Comment string
			Private json.RawMessage
			Tests   []struct {
				ID                  int `json:"tcId"`
				Comment, PT, Result string
				JWE                 json.RawMessage
				Flags               []string
			}
		}
	}
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	refused, accepted, left := 0, 0, 0
	for _, group := range v.TestGroups {
		for _, test := range group.Tests {
			var token string
			if err := json.Unmarshal(test.JWE, &token); err != nil {
				token = string(test.JWE) // a JWE in JSON form
			}
			payload, alg, ok := decrypts(t, token, group.Private)
			valid := test.Result == "valid"
			switch {
			case valid && (alg == "RSA1_5" || slices.Contains(test.Flags, "CompressedPlaintext")):
				if ok {
					t.Errorf("%d %s: an algorithm that is not supported on purpose was accepted", test.ID, test.Comment)
				}
				left++
			case valid && !ok:
				t.Errorf("%d %s: %s: refused", test.ID, group.Comment, test.Comment)
			case valid && hex.EncodeToString(payload) != test.PT:
				t.Errorf("%d %s: %s: wrong plaintext", test.ID, group.Comment, test.Comment)
			case !valid && ok:
				t.Errorf("%d %s: %s: accepted", test.ID, group.Comment, test.Comment)
			case ok:
				accepted++
			default:
				refused++
			}
		}
	}
	t.Logf("%d rejected, %d accepted, %d with unsupported algorithms", refused, accepted, left)
}

// decrypts decrypts a token with a private or symmetric key and the algorithm of the key.
func decrypts(t *testing.T, token string, key json.RawMessage) (payload []byte, alg jose.Algorithm, ok bool) {
	t.Helper()
	var private gojose.JSONWebKey
	if err := json.Unmarshal(key, &private); err != nil {
		t.Fatal(err)
	}
	alg = jose.Algorithm(private.Algorithm)
	if secret, symmetric := private.Key.([]byte); symmetric {
		if alg == "A128GCM" { // a shared content key
			alg = jose.Direct
		}
		payload, _, err := jose.DecryptSecret(token, func(bytes int) []byte {
			if bytes == len(secret) {
				return secret
			}
			return nil
		}, []jose.Algorithm{alg})
		return payload, alg, err == nil
	}
	d, err := jose.NewDecrypter(private.KeyID, private.Key)
	if err != nil {
		return nil, alg, false
	}
	payload, _, err = jose.Decrypt(token, []*jose.Decrypter{d}, []jose.Algorithm{alg})
	return payload, alg, err == nil
}
