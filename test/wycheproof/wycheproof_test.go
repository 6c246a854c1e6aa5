// Package wycheproof runs the test vectors of Project Wycheproof for JSON Web Signatures,
// Encryption and Keys with package jose. It is a separate module, so that the product does not
// depend on the vectors.
package wycheproof

import (
	"encoding/base64"
	"encoding/json"
	"io/fs"
	"testing"

	"github.com/c2sp/wycheproof"
	"github.com/valetkey/valetkey/oauth/jose"
)

type vectors struct {
	TestGroups []struct {
		Comment         string
		Private, Public json.RawMessage
		Tests           []struct {
			ID      int `json:"tcId"`
			Comment string
			JWS     json.RawMessage
			Result  string
		}
	}
}

var everything = jose.Expected{Algorithms: []jose.Algorithm{
	"none", jose.ES256, jose.ES384, jose.ES512, jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512,
	jose.EdDSA, jose.HS256, jose.HS384, jose.HS512,
}}

func TestJSONWebVectors(t *testing.T) {
	for _, file := range []string{"json_web_signature_test.json", "json_web_key_test.json", "json_web_crypto_test.json"} {
		t.Run(file, func(t *testing.T) {
			b, err := fs.ReadFile(wycheproof.TestVectors, file)
			if err != nil {
				t.Fatal(err)
			}
			var v vectors
			if err := json.Unmarshal(b, &v); err != nil {
				t.Fatal(err)
			}
			refused, accepted := 0, 0
			for _, group := range v.TestGroups {
				for _, test := range group.Tests {
					if test.JWS == nil { // a JWE
						continue
					}
					var token string
					if err := json.Unmarshal(test.JWS, &token); err != nil {
						token = string(test.JWS) // a JWS in JSON form
					}
					key := group.Public
					if key == nil {
						key = group.Private
					}
					ok := verifies(t, token, key)
					switch {
					case test.Result == "valid" && !ok && !stricter[file][test.ID]:
						t.Errorf("%d %s: %s: refused", test.ID, group.Comment, test.Comment)
					case test.Result == "invalid" && ok && !milder[file][test.ID]:
						t.Errorf("%d %s: %s: accepted", test.ID, group.Comment, test.Comment)
					case test.Result == "invalid" && embedded(token) != (test.Comment == ownKey):
						t.Errorf("%d %s: %s: with the key in its header: %v", test.ID, group.Comment, test.Comment, embedded(token))
					case ok:
						accepted++
					default:
						refused++
					}
				}
			}
			t.Logf("%d refused, %d accepted", refused, accepted)
		})
	}
}

// verifies verifies a token with each function that could accept it: with the public part of
// the key or set as an untrusted JWK Set, and with a symmetric key as a secret.
func verifies(t *testing.T, token string, key json.RawMessage) bool {
	t.Helper()
	var set struct{ Keys []map[string]any }
	if err := json.Unmarshal(key, &set); err != nil {
		t.Fatal(err)
	}
	if set.Keys == nil {
		var one map[string]any
		if err := json.Unmarshal(key, &one); err != nil {
			t.Fatal(err)
		}
		set.Keys = []map[string]any{one}
	}
	public := []map[string]any{}
	for _, member := range set.Keys {
		if k, ok := member["k"].(string); ok && len(set.Keys) > 1 {
			// A set with a symmetric key is rejected.
			keys, err := jose.ParseKeySet(key)
			if err == nil {
				_, _, err = jose.Verify(token, keys, everything)
			}
			return err == nil
		} else if ok {
			secret, err := base64.RawURLEncoding.DecodeString(k)
			if err != nil {
				continue
			}
			// A secret is used only with its own algorithm.
			alg, _ := member["alg"].(string)
			if _, _, err := jose.VerifySecret(token, secret, jose.Expected{Algorithms: []jose.Algorithm{jose.Algorithm(alg)}}); err == nil {
				return true
			}
			continue
		}
		for _, private := range []string{"d", "p", "q", "dp", "dq", "qi"} {
			delete(member, private)
		}
		public = append(public, member)
	}
	document, err := json.Marshal(map[string]any{"keys": public})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := jose.ParseKeySet(document)
	if err != nil {
		return false
	}
	_, _, err = jose.Verify(token, keys, everything)
	return err == nil
}

// ownKey is the comment of vectors that an attacker has signed, with their own key in the header.
// They are refused, except by the function for tokens that prove possession of that key.
const ownKey = "rejectsAttackerProvidedEmbeddedJwk"

// embedded reports whether a token is accepted as a DPoP proof would be: with the key in its header.
func embedded(token string) bool {
	_, _, _, err := jose.VerifyEmbedded(token, everything)
	return err == nil
}
