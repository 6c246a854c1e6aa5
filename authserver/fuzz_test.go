package authserver

import (
	"encoding/base64"
	"log/slog"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"
)

// Whatever parseParams accepts, net/url parses in the same way. Attackers can bypass checks if two
// parsers disagree.
func FuzzParseParams(f *testing.F) {
	for _, seed := range []string{"a=b&c=d", "a=b&a=c", "a=%zz", "a=b;c=d", "resource=a&resource=b", "=&&a", "a=%00", "a=%ff", "a+b=c%20d"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		c := &call{s: &Server{}, r: httptest.NewRequest("GET", "/", nil)}
		p, err := c.parseParams(raw)
		if err != nil {
			return
		}
		values, err := url.ParseQuery(raw)
		if err != nil {
			t.Fatalf("net/url refuses %q: %v", raw, err)
		}
		if len(p) > maxParams {
			t.Fatalf("%d parameters", len(p))
		}
		for _, e := range p {
			if values.Get(e.name) != p.get(e.name) && values[e.name][0] != "" {
				t.Errorf("%q: %s is %q, net/url has %q", raw, e.name, p.get(e.name), values.Get(e.name))
			}
			if e.name != "resource" && len(p.all(e.name)) != 1 {
				t.Errorf("%q: %s is repeated", raw, e.name)
			}
			if !utf8.ValidString(e.value) || len(e.value) > maxParamBytes {
				t.Errorf("%q: the value of %s is not valid", raw, e.name)
			}
		}
		again, err := c.parseParams(p.encode())
		if err != nil || again.encode() != p.encode() {
			t.Errorf("%q changes when it is encoded and parsed again: %v", raw, err)
		}
	})
}

func FuzzBasicCredentials(f *testing.F) {
	f.Add("Basic czZCaGRSa3F0Mzo3RmpmcDBaQnIxS3REUmJuZlZkbUl3")
	f.Add("basic  YTpi")
	f.Add("Basic " + base64.StdEncoding.EncodeToString([]byte("a%zz:b")))
	f.Fuzz(func(t *testing.T, header string) {
		rawID, id, ok := basicPart(decodeBasic([]string{header}), 0)
		rawSecret, secret, _ := basicPart(decodeBasic([]string{header}), 1)
		if !ok {
			return
		}
		// Encoding the result as in RFC 6749, section 2.3.1 and reading it again returns the same
		// credentials.
		encoded := "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(id)+":"+url.QueryEscape(secret)))
		_, id2, ok := basicPart(decodeBasic([]string{encoded}), 0)
		_, secret2, _ := basicPart(decodeBasic([]string{encoded}), 1)
		if len(encoded) < 4096 && utf8.ValidString(id+secret) && (!ok || id2 != id || secret2 != secret) {
			t.Errorf("%q is read as %q %q, and then %q %q", header, id, secret, id2, secret2)
		}
		// The unencoded credentials are also returned as they were sent.
		sent, err := base64.StdEncoding.DecodeString(strings.TrimSpace(header[len("Basic "):]))
		if err != nil || string(sent) != rawID+":"+rawSecret {
			t.Errorf("%q is returned unchanged as %q %q", header, rawID, rawSecret)
		}
	})
}

func FuzzIsSecret(f *testing.F) {
	f.Add("vk_ac_SplxlOBeZQQYbYS6WxSbIA")
	f.Fuzz(func(t *testing.T, s string) {
		n := 0
		for _, prefix := range []string{prefixCode, prefixRefreshToken, prefixAccessToken} {
			if isSecret(prefix, s) {
				n++
			}
		}
		if n > 1 {
			t.Errorf("%q matches %d kinds of secret", s, n)
		}
	})
}

// readUserCode returns a valid user code or "". A valid code is returned unchanged.
func FuzzReadUserCode(f *testing.F) {
	for _, seed := range []string{"WDJB-MJHT", "wdjb mjht", " w d j b.m j h t ", "WDJBMJHT1", "WDJBMJHA", "ẄDJBMJHT", "", "----", strings.Repeat("B", 100)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, typed string) {
		code := readUserCode(typed)
		if code == "" {
			return
		}
		if len(code) != userCodeLength || strings.Trim(code, userCodeLetters) != "" {
			t.Errorf("%q is read as %q", typed, code)
		}
		if again := readUserCode(code[:4] + "-" + code[4:]); again != code {
			t.Errorf("%q is read as %q, and that as %q", typed, code, again)
		}
	})
}

// A JWT is accepted only with the signature of the trusted issuer, which none of these inputs has.
func FuzzTrustedIssuer(f *testing.F) {
	for _, seed := range []string{
		"eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJodHRwczovL2lkcC5leGFtcGxlLm5ldCIsInN1YiI6ImFkYSJ9.AAAA",
		"eyJhbGciOiJub25lIn0.eyJpc3MiOiJodHRwczovL2lkcC5leGFtcGxlLm5ldCJ9.", "..", "a.b.c", "",
	} {
		f.Add(seed)
	}
	trusted := []TrustedIssuer{{
		Issuer: "https://idp.example.net", JWKS: []byte(`{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`),
		Uses: []string{UseTokenExchange}, SubjectByEmail: true,
	}}
	s := &Server{config: Config{Issuer: "https://server.example.com", TrustedIssuers: trusted}, log: slog.New(slog.DiscardHandler)}
	var err error
	if s.trusted, err = s.newTrustedIssuers(); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, token string) {
		trust := s.trustedFor(token, UseTokenExchange)
		if trust == nil {
			return
		}
		c := &call{s: s, r: httptest.NewRequest("POST", "/token", nil)}
		if a, err := c.verifyTrusted(trust, token, nil, []string{"https://server.example.com"}); err == nil {
			t.Errorf("%q is accepted as %+v", token, a)
		}
	})
}
