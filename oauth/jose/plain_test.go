package jose

import (
	"encoding/base64"
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// texts is a destination of ParseClaims with and without TextMember.
type texts struct {
	Method string `json:"htm"`
	Nonce  string `json:"nonce"`
}

type plainTexts texts

func (p *plainTexts) TextMember(name string) *string {
	switch name {
	case "htm":
		return &p.Method
	case "nonce":
		return &p.Nonce
	}
	return nil
}

// checkPlain compares what the decoder for plain documents accepts with the strict decoder.
func checkPlain(t *testing.T, document string) {
	t.Helper()
	if plain, jwk, ok := plainHeader([]byte(document)); ok {
		strict, err := parseHeader([]byte(document))
		if err != nil || plain != strict {
			t.Errorf("%q: header %+v, strictly %+v, %v", document, plain, strict, err)
		}
		if key, ok := plainKey(jwk); ok {
			strict, err := embeddedKey(&parts{rawHeader: []byte(document)})
			if err != nil || !reflect.DeepEqual(key, strict) || key.Thumbprint() != strict.Thumbprint() {
				t.Errorf("%q: key %+v, strictly %+v, %v", document, key, strict, err)
			}
		}
	}
	if plain, ok := plainClaims([]byte(document), nil); ok {
		strict, err := parseClaims([]byte(document), nil)
		if err != nil || !reflect.DeepEqual(plain, strict) {
			t.Errorf("%q: claims %+v, strictly %+v, %v", document, plain, strict, err)
		}
	}
	var filled plainTexts
	if plain, ok := plainClaims([]byte(document), &filled); ok {
		var decoded texts
		strict, err := parseClaims([]byte(document), &decoded)
		if err != nil || !reflect.DeepEqual(plain, strict) || texts(filled) != decoded {
			t.Errorf("%q: claims %+v %+v, strictly %+v %+v, %v", document, plain, filled, strict, decoded, err)
		}
	}
	if key, ok := plainKey(document); ok {
		strict, usable, err := parseJWK([]byte(document))
		if err != nil || !usable || !reflect.DeepEqual(key, strict) {
			t.Errorf("%q: key %+v, strictly %+v, %v, %v", document, key, strict, usable, err)
		}
	}
}

// plainSeeds are documents, and whether each is read as a header or as claims without the strict decoder.
func plainSeeds(t testing.TB) map[string]bool {
	public, err := json.Marshal(signers()[ES256].Public().WithAlgorithm(""))
	if err != nil {
		t.Fatal(err)
	}
	key := strings.Replace(string(public), `"kid":"ES256",`, "", 1)
	return map[string]bool{
		`{"typ":"dpop+jwt","alg":"ES256","jwk":` + key + `}`:                           true,
		`{"alg":"ES256","kid":"k"}`:                                                    true,
		`{"iss":"a","sub":"a","aud":"b","jti":"c","exp":1,"iat":0,"nbf":253402300799}`: true,
		`{"aud":["a","b"],"x":true,"y":false,"htm":"POST","nonce":""}`:                 true,
		`{"aud":[]}`:               true,
		`{}`:                       true,
		`{"a":{}}`:                 true,
		`{"htm":"a","htm":"b"}`:    false,
		`{"alg":"a","alg":"a"}`:    false,
		`{"a":{"b":1,"b":2}}`:      false,
		`{"a":{"b":{}}}`:           false,
		`{"crit":[],"alg":"a"}`:    true, // as claims
		`{"alg":1}`:                true, // as claims
		`{"htm":null}`:             false,
		`{"iss":null}`:             false,
		`{"iss":1}`:                false,
		`{"aud":1}`:                false,
		`{"aud":[1]}`:              false,
		`{"exp":"1"}`:              false,
		`{"exp":01}`:               false,
		`{"exp":-1}`:               false,
		`{"exp":1.5}`:              false,
		`{"exp":1e3}`:              false,
		`{"exp":253402300800}`:     false,
		`{"exp":9999999999999999}`: false,
		`{"a":"\u0061"}`:           false,
		"{\"a\":\"\x00\"}":         false,
		"{\"a\":\"\x7f\"}":         false,
		"{\"a\":\"\xff\"}":         false,
		`{"a":"ä"}`:                false,
		`{"a":1,}`:                 false,
		`{"a":1}}`:                 false,
		`{"a":1} `:                 false,
		`{"a":truefalse}`:          false,
		`{"a":[,]}`:                false,
		`{"a":["b",]}`:             false,
		`{"a"}`:                    false,
		`{`:                        false,
		``:                         false,
		`[]`:                       false,
		`null`:                     false,
		key:                        true, // as claims
	}
}

func TestPlainDocumentsMeanWhatTheyMeanStrictly(t *testing.T) {
	for document, plain := range plainSeeds(t) {
		_, _, header := plainHeader([]byte(document))
		_, claims := plainClaims([]byte(document), nil)
		if (header || claims) != plain {
			t.Errorf("%q: read as a header: %v, as claims: %v; want %v", document, header, claims, plain)
		}
		checkPlain(t, document)
	}
	many := "{"
	for i := range maxPlainMembers + 1 {
		many += strconv.Quote(strconv.Itoa(i)) + ":1,"
	}
	if _, ok := plainClaims([]byte(strings.TrimSuffix(many, ",")+"}"), nil); ok {
		t.Error("an object with many members is read")
	}
}

// A null is no member of a proof, as before, and a member of another type is an error.
func TestTextMembersAreStrings(t *testing.T) {
	for payload, want := range map[string]struct {
		texts
		ok bool
	}{
		`{"htm":"POST","nonce":"n"}`:  {texts{"POST", "n"}, true},
		`{"htm":"POST","nonce":null}`: {texts{"POST", ""}, true},
		`{"htm":"P\u004fST"}`:         {texts{"POST", ""}, true},
		`{"HTM":"POST"}`:              {texts{}, true},
		`{"htm":"POST","nonce":1}`:    {texts{}, false},
		`{"htm":"POST","htm":"POST"}`: {texts{}, false},
		`{"htm":["POST"]}`:            {texts{}, false},
		`{"htm":"POST","nonce":true}`: {texts{}, false},
	} {
		var got plainTexts
		if _, err := ParseClaims([]byte(payload), &got); (err == nil) != want.ok || want.ok && texts(got) != want.texts {
			t.Errorf("%s: %+v, %v", payload, got, err)
		}
	}
}

func TestKeysOfProofsAreOnTheCurve(t *testing.T) {
	public, err := json.Marshal(signers()[ES256].Public())
	if err != nil {
		t.Fatal(err)
	}
	var key struct{ X, Y string }
	if err := json.Unmarshal(public, &key); err != nil {
		t.Fatal(err)
	}
	zero := base64.RawURLEncoding.EncodeToString(make([]byte, 32))
	with := func(x, y, rest string) string {
		return `{"kty":"EC","crv":"P-256","x":"` + x + `","y":"` + y + `"` + rest + `}`
	}
	for jwk, want := range map[string]bool{
		with(key.X, key.Y, ""):                            true,
		with(key.X, key.Y, `,"use":"sig","alg":"ES256"`):  true,
		with(key.X, key.Y, `,"use":"enc"`):                false,
		with(key.X, key.Y, `,"alg":"ES384"`):              false,
		with(key.X, key.Y, `,"d":"AA"`):                   false,
		with(key.X, key.Y, `,"k":""`):                     false,
		with(key.Y, key.X, ""):                            false,
		with(zero, zero, ""):                              false,
		with(key.X[1:], key.Y, ""):                        false,
		with(key.X+"A", key.Y, ""):                        false,
		with(key.X+"=", key.Y, ""):                        false,
		with(key.X[:42]+"_", key.Y, ""):                   false, // unused bits are set
		`{"kty":"EC","crv":"P-256","x":"` + key.X + `"}`:  false,
		`{"kty":"OKP","crv":"P-256","x":"` + key.X + `"}`: false,
	} {
		if _, ok := plainKey(jwk); ok != want {
			t.Errorf("%s: %v", jwk, ok)
		}
		checkPlain(t, jwk)
	}
}

func FuzzPlain(f *testing.F) {
	for document := range plainSeeds(f) {
		f.Add(document)
	}
	f.Fuzz(checkPlain)
}
