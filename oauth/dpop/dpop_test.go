package dpop_test

import (
	"bytes"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/dpop"
	"github.com/valetkey/valetkey/oauth/jose"
)

// The proofs of RFC 9449, sections 4.1 and 7.1.
const (
	exampleHeader      = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19."
	exampleTokenProof  = exampleHeader + "eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg"
	exampleTokenAPI    = exampleHeader + "eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA"
	exampleAccessToken = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"
	exampleThumbprint  = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
)

func TestProofsOfTheSpecificationAreValid(t *testing.T) {
	proof, err := dpop.Verify(exampleTokenProof, dpop.Expected{Method: "POST", URIs: []string{"https://server.example.com/token"}, Now: time.Unix(1562262616, 0)})
	if err != nil || proof.Thumbprint != exampleThumbprint || proof.ID != "-BwC3ESc6acc2lTc" || proof.Algorithm != jose.ES256 {
		t.Errorf("section 4.1: %+v %v", proof, err)
	}
	proof, err = dpop.Verify(exampleTokenAPI, dpop.Expected{
		Method: "GET", URIs: []string{"https://resource.example.org/protectedresource"}, AccessToken: exampleAccessToken, Now: time.Unix(1562262618, 0),
	})
	if err != nil || proof.Thumbprint != exampleThumbprint {
		t.Errorf("section 7.1: %+v %v", proof, err)
	}
}

var now = time.Unix(1_800_000_000, 0)

// sign returns a proof with changed claims; nil removes one.
func sign(t testing.TB, typ string, key crypto.Signer, changes map[string]any) string {
	t.Helper()
	claims := map[string]any{"jti": "1", "htm": "POST", "htu": "https://as.example.com/token", "iat": now.Unix()}
	for name, value := range changes {
		if claims[name] = value; value == nil {
			delete(claims, name)
		}
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewEmbeddingSigner(jose.ES256, key)
	if err != nil {
		t.Fatal(err)
	}
	token, err := signer.Sign(typ, payload)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func newKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := jose.GenerateKey(jose.ES256)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestPP01_PP03_PP05_ProofsAreVerified(t *testing.T) {
	key := newKey(t)
	ok := dpop.Error("")
	for name, test := range map[string]struct {
		changes map[string]any
		want    dpop.Error
	}{
		"valid":                       {nil, ok},
		"another method":              {map[string]any{"htm": "GET"}, dpop.ErrMethod},
		"method in lower case":        {map[string]any{"htm": "post"}, dpop.ErrMethod},
		"no method":                   {map[string]any{"htm": nil}, dpop.ErrMethod},
		"method of the wrong type":    {map[string]any{"htm": 1}, dpop.ErrClaims},
		"another URI":                 {map[string]any{"htu": "https://as.example.com/par"}, dpop.ErrURI},
		"another host":                {map[string]any{"htu": "https://evil.example.com/token"}, dpop.ErrURI},
		"http":                        {map[string]any{"htu": "http://as.example.com/token"}, dpop.ErrURI},
		"no URI":                      {map[string]any{"htu": nil}, dpop.ErrURI},
		"query and fragment":          {map[string]any{"htu": "https://as.example.com/token?a=b#c"}, ok},
		"host in upper case":          {map[string]any{"htu": "HTTPS://AS.example.com/token"}, ok},
		"default port":                {map[string]any{"htu": "https://as.example.com:443/token"}, ok},
		"another port":                {map[string]any{"htu": "https://as.example.com:8443/token"}, dpop.ErrURI},
		"escaped letter":              {map[string]any{"htu": "https://as.example.com/%74oken"}, ok},
		"dot segment":                 {map[string]any{"htu": "https://as.example.com/a/../token"}, ok},
		"user information":            {map[string]any{"htu": "https://a@as.example.com/token"}, dpop.ErrURI},
		"path in upper case":          {map[string]any{"htu": "https://as.example.com/Token"}, dpop.ErrURI},
		"final slash":                 {map[string]any{"htu": "https://as.example.com/token/"}, dpop.ErrURI},
		"iat 10 s ago":                {map[string]any{"iat": now.Unix() - 10}, ok},
		"iat 10 s ahead":              {map[string]any{"iat": now.Unix() + 10}, ok},
		"iat a minute ago":            {map[string]any{"iat": now.Unix() - 60}, ok},
		"iat more than a minute ago":  {map[string]any{"iat": now.Unix() - 61}, dpop.ErrTime},
		"iat a minute ahead":          {map[string]any{"iat": now.Unix() + 61}, dpop.ErrTime},
		"iat five minutes ago":        {map[string]any{"iat": now.Unix() - 300}, dpop.ErrTime},
		"iat five minutes ahead":      {map[string]any{"iat": now.Unix() + 300}, dpop.ErrTime},
		"no iat":                      {map[string]any{"iat": nil}, dpop.ErrTime},
		"iat is a string":             {map[string]any{"iat": "1800000000"}, dpop.ErrClaims},
		"expired":                     {map[string]any{"exp": now.Unix()}, dpop.ErrTime},
		"not valid yet":               {map[string]any{"nbf": now.Unix() + 100}, dpop.ErrTime},
		"no jti":                      {map[string]any{"jti": nil}, dpop.ErrID},
		"empty jti":                   {map[string]any{"jti": ""}, dpop.ErrID},
		"long jti":                    {map[string]any{"jti": strings.Repeat("x", 257)}, dpop.ErrID},
		"nonce of the wrong type":     {map[string]any{"nonce": 1}, dpop.ErrClaims},
		"ath without an access token": {map[string]any{"ath": "x"}, ok},
	} {
		proof, err := dpop.Verify(sign(t, oauth.TypDPoPProof, key, test.changes), dpop.Expected{Method: "POST", URIs: []string{"https://as.example.com/token"}, Now: now})
		if got, _ := errors.AsType[dpop.Error](err); got != test.want || (err == nil) != (proof != nil) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
	for _, typ := range []string{"", "JWT", "at+jwt", "client-authentication+jwt"} {
		if _, err := dpop.Verify(sign(t, typ, key, nil), dpop.Expected{Method: "POST", URIs: []string{"https://as.example.com/token"}, Now: now}); err != dpop.ErrSignature {
			t.Errorf("typ %q: %v", typ, err)
		}
	}
	token := dpop.Expected{Method: "POST", URIs: []string{"https://as.example.com/token"}, Now: now, AccessToken: exampleAccessToken}
	for ath, want := range map[string]dpop.Error{"": dpop.ErrAccessToken, "x": dpop.ErrAccessToken, "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo": ok} {
		_, err := dpop.Verify(sign(t, oauth.TypDPoPProof, key, map[string]any{"ath": ath}), token)
		if got, _ := errors.AsType[dpop.Error](err); got != want {
			t.Errorf("ath %q: %v", ath, err)
		}
	}
	if _, err := dpop.Verify(strings.Repeat("x", dpop.MaxProofBytes+1), token); err != dpop.ErrTooLong {
		t.Errorf("a long proof: %v", err)
	}
}

func TestPP01_AlgorithmMustBeAccepted(t *testing.T) {
	private, err := jose.GenerateKey(jose.RS256)
	if err != nil {
		t.Fatal(err)
	}
	key, err := dpop.NewKey(jose.RS256, private)
	if err != nil {
		t.Fatal(err)
	}
	proof, err := key.Proof("POST", "https://as.example.com/token", "", "")
	if err != nil {
		t.Fatal(err)
	}
	want := dpop.Expected{Method: "POST", URIs: []string{"https://as.example.com/token"}, Now: time.Now()}
	if _, err := dpop.Verify(proof, want); err != nil {
		t.Error(err)
	}
	want.Algorithms = []jose.Algorithm{jose.ES256, jose.PS256}
	if _, err := dpop.Verify(proof, want); err != dpop.ErrSignature {
		t.Errorf("RS256: %v", err)
	}
}

func TestPP10_URIsAreNormalized(t *testing.T) {
	for uri, want := range map[string]string{
		"https://Example.com":                     "https://example.com/",
		"https://example.com:443/":                "https://example.com/",
		"http://example.com:80/a":                 "http://example.com/a",
		"http://example.com:443/a":                "http://example.com:443/a",
		"https://example.com:/a":                  "https://example.com/a",
		"https://example.com/a?b#c":               "https://example.com/a",
		"https://example.com/%7Eada/%2f/%c3%a4":   "https://example.com/~ada/%2F/%C3%A4",
		"https://example.com/a/./b/../c":          "https://example.com/a/c",
		"https://[2001:DB8::1]:443/a":             "https://[2001:db8::1]/a",
		"https://example.com//a":                  "https://example.com//a",
		"ftp://example.com/":                      "",
		"/token":                                  "",
		"":                                        "",
		"https://ada@example.com/":                "",
		"https:example.com":                       "",
		"https://example.com/%zz":                 "",
		"https://" + strings.Repeat("a", 5000):    "",
		"https://example.com/a%2e%2e/b":           "https://example.com/a../b",
		"https://example.com/resource?x=https://": "https://example.com/resource",
	} {
		got, err := dpop.NormalizeURI(uri)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%q: %q %v, want %q", uri, got, err, want)
		}
		if again, err := dpop.NormalizeURI(got); want != "" && (again != got || err != nil) {
			t.Errorf("%q: normalizing again returns %q %v", got, again, err)
		}
	}
}

func TestPP04_NoncesExpireAndBelongToTheirServer(t *testing.T) {
	nonces, err := dpop.NewNonces(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	node, err := dpop.NewNonces(bytes.Repeat([]byte{1}, 32)) // another node of the same server
	if err != nil {
		t.Fatal(err)
	}
	other, err := dpop.NewNonces(bytes.Repeat([]byte{2}, 32))
	if err != nil {
		t.Fatal(err)
	}
	nonce := nonces.Current(now)
	for at, want := range map[time.Duration]bool{
		0: true, time.Minute: true, 2 * time.Minute: true, 4 * time.Minute: false, 24 * time.Hour: false,
		-time.Minute: true, -4 * time.Minute: false,
	} {
		if nonces.Valid(nonce, now.Add(at)) != want || node.Valid(nonce, now.Add(at)) != want {
			t.Errorf("after %v: want %v", at, want)
		}
	}
	if other.Valid(nonce, now) {
		t.Error("a server accepts the nonce of another one")
	}
	if nonces.Current(now.Add(time.Minute)) == nonce {
		t.Error("the nonce is not rotated")
	}
	for _, forged := range []string{"", "x", nonce[:len(nonce)-1], nonce + "A", strings.Repeat("A", len(nonce)), nonce[:len(nonce)-2] + "AA", " " + nonce, nonce + "\n"} {
		if nonces.Valid(forged, now) {
			t.Errorf("%q is accepted", forged)
		}
	}
	if _, err := dpop.NewNonces(make([]byte, 31)); err == nil {
		t.Error("a short key is accepted")
	}
}

func TestKeySignsProofsAndSurvivesARestart(t *testing.T) {
	key, err := dpop.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	marshaled, err := key.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	again, err := dpop.ParseKey(marshaled)
	if err != nil || again.Thumbprint() != key.Thumbprint() {
		t.Fatalf("%v %v", again, err)
	}
	token, err := again.Proof("GET", "https://API.example.com:443/a?b=c", "token", "n")
	if err != nil {
		t.Fatal(err)
	}
	want := dpop.Expected{Method: "GET", URIs: []string{"https://api.example.com/a"}, AccessToken: "token", Now: time.Now()}
	proof, err := dpop.Verify(token, want)
	if err != nil || proof.Nonce != "n" || proof.Thumbprint != key.Thumbprint() {
		t.Errorf("%+v %v", proof, err)
	}
	if second, err := again.Proof("GET", "https://api.example.com/a", "token", "n"); err != nil || second == token {
		t.Errorf("the proof is not new: %v", err)
	}
	for _, bad := range [][]byte{nil, []byte("ES256"), []byte("ES256\x00x"), append([]byte("PS256\x00"), marshaled[6:]...)} {
		if _, err := dpop.ParseKey(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
	if text := fmt.Sprintf("%v %+v %#v %s", key, key, key, key); strings.Count(text, key.Thumbprint()) != 4 || len(text) > 300 {
		t.Errorf("the key is printed as %s", text)
	}
}

func TestPP01_OneProofPerRequest(t *testing.T) {
	for want, values := range map[dpop.Error][]string{"": nil, dpop.ErrMultiple: {"a", "b"}, dpop.ErrSignature: {""}} {
		header := http.Header{}
		for _, value := range values {
			header.Add(dpop.HeaderProof, value)
		}
		_, err := dpop.FromRequest(header)
		if got, _ := errors.AsType[dpop.Error](err); got != want {
			t.Errorf("%q: %v", values, err)
		}
	}
	header := http.Header{}
	header.Set(dpop.HeaderProof, "proof")
	if proof, err := dpop.FromRequest(header); proof != "proof" || err != nil {
		t.Error(proof, err)
	}
	dpop.SetNonce(header, "n")
	if header.Get(dpop.HeaderNonce) != "n" {
		t.Error("DPoP-Nonce is not set")
	}
}

func FuzzProof(f *testing.F) {
	key := newKey(f)
	f.Add(exampleTokenProof, "https://server.example.com/token")
	f.Add(sign(f, oauth.TypDPoPProof, key, nil), "https://as.example.com/token")
	f.Add(sign(f, oauth.TypDPoPProof, key, map[string]any{"htu": "https://as.example.com/%7e/../token"}), "https://as.example.com/token")
	f.Add("a.b.c", "https://")
	f.Fuzz(func(t *testing.T, token, uri string) {
		normal, err := dpop.NormalizeURI(uri)
		if err == nil {
			if again, err := dpop.NormalizeURI(normal); err != nil || again != normal {
				t.Fatalf("%q is normalized to %q, and that to %q (%v)", uri, normal, again, err)
			}
		}
		proof, err := dpop.Verify(token, dpop.Expected{Method: "POST", URIs: []string{normal}, Now: now})
		if err == nil && (proof.Thumbprint == "" || proof.ID == "" || proof.Expires.Before(now)) {
			t.Fatalf("accepted without a key, an ID or an expiry: %+v", proof)
		}
		if _, ok := errors.AsType[dpop.Error](err); err != nil && !ok {
			t.Fatalf("%v is not an Error", err)
		}
	})
}
