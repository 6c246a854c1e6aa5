package jose

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseClaims(t *testing.T) {
	var into struct {
		Scope string `json:"scope"`
		Act   struct {
			Subject string `json:"sub"`
		} `json:"act"`
	}
	got, err := ParseClaims([]byte(`{"iss":"https://as","sub":"s","jti":"j","aud":"a","exp":1300819380,"nbf":1300819380.5,"iat":0,
		"scope":"read","Scope":"admin","act":{"sub":"actor","SUB":"other"}}`), &into)
	if err != nil {
		t.Fatal(err)
	}
	want := Claims{
		Issuer: "https://as", Subject: "s", ID: "j", Audience: []string{"a"},
		Expires: time.Unix(1300819380, 0), NotBefore: time.Unix(1300819380, 5e8), IssuedAt: time.Unix(0, 0),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if into.Scope != "read" || into.Act.Subject != "actor" {
		t.Errorf("a name in another case was accepted: %+v", into)
	}
	if got, err := ParseClaims([]byte(`{}`), nil); err != nil || !cmp.Equal(got, Claims{}) {
		t.Errorf("no claims: %+v, %v", got, err)
	}
}

func TestJW08_AmbiguousClaimsAreRejected(t *testing.T) {
	for _, payload := range []string{
		`{"sub":"a","sub":"b"}`, `{"sub":"a","s\u0075b":"b"}`, `{"act":{"sub":"a","sub":"b"}}`,
		`{"list":[{"a":1,"a":2}]}`, `{"exp":1,"exp":9999999999}`,
	} {
		if _, err := ParseClaims([]byte(payload), nil); err == nil {
			t.Errorf("%s: accepted with a duplicate member", payload)
		}
	}
	got, err := ParseClaims([]byte(`{"Sub":"admin","ISS":"https://as","Exp":9999999999,"AUD":"a"}`), nil)
	if err != nil || !cmp.Equal(got, Claims{}) {
		t.Errorf("names are case-insensitive: %+v, %v", got, err)
	}
}

func TestPayloadIsOneObjectOfLimitedSize(t *testing.T) {
	for _, payload := range []string{
		``, `null`, `[]`, `"x"`, `1`, `{`, `{}{}`, `{} x`, `{"a":}`, "\ufeff{}", `{'a':1}`, `{"a":1,}`,
		`{"a":` + strings.Repeat("[", 17) + strings.Repeat("]", 17) + `}`,
		`{"a":` + strings.Repeat(`{"a":`, 5000),
		`{"a":"` + strings.Repeat("x", 16<<10) + `"}`,
		`{"iss":1}`, `{"sub":null}`, `{"sub":["a"]}`, `{"jti":{}}`,
	} {
		if _, err := ParseClaims([]byte(payload), nil); err == nil {
			t.Errorf("%.40s: accepted", payload)
		}
	}
	// Brackets in strings are not nesting.
	if _, err := ParseClaims([]byte(`{"a":"`+strings.Repeat(`[{\"`, 100)+`"}`), nil); err != nil {
		t.Error(err)
	}
	var into struct {
		Scope string `json:"scope"`
	}
	if _, err := ParseClaims([]byte(`{"scope":["a"]}`), &into); err == nil {
		t.Error("a claim of the wrong type was accepted")
	}
}

func TestJW22_TimesAreNumbersInRange(t *testing.T) {
	for _, name := range []string{"exp", "nbf", "iat"} {
		for _, value := range []string{
			`"1300819380"`, `1e400`, `-1`, `-1e400`, `NaN`, `Infinity`, `null`, `true`, `[1]`, `{}`, `1e18`, `253402300800`, `0x10`, `""`,
		} {
			if got, err := ParseClaims([]byte(`{"`+name+`":`+value+`}`), nil); err == nil {
				t.Errorf("%s %s: accepted as %+v", name, value, got)
			}
		}
		for value, want := range map[string]int64{`0`: 0, `253402300799`: 253402300799, `1.3e9`: 1_300_000_000} {
			got, err := ParseClaims([]byte(`{"`+name+`":`+value+`}`), nil)
			read := map[string]time.Time{"exp": got.Expires, "nbf": got.NotBefore, "iat": got.IssuedAt}[name]
			if err != nil || read.Unix() != want || read.IsZero() {
				t.Errorf("%s %s: %v, %v", name, value, read, err)
			}
		}
	}
}

func TestJW23_AudienceIsAStringOrStrings(t *testing.T) {
	for _, value := range []string{`1`, `null`, `true`, `{}`, `{"a":"b"}`, `[1]`, `["a",null]`, `["a",["b"]]`, `[{}]`} {
		if got, err := ParseClaims([]byte(`{"aud":`+value+`}`), nil); err == nil {
			t.Errorf("%s: accepted as %q", value, got.Audience)
		}
	}
	for _, test := range []struct {
		value string
		want  []string
		array bool
	}{{`"a"`, []string{"a"}, false}, {`["a"]`, []string{"a"}, true}, {`["a","b"]`, []string{"a", "b"}, true}, {`[]`, nil, true}, {`""`, []string{""}, false}} {
		got, err := ParseClaims([]byte(`{"aud":`+test.value+`}`), nil)
		if err != nil || !cmp.Equal(got.Audience, test.want) || got.AudienceIsArray != test.array {
			t.Errorf("%s: %+v, %v", test.value, got, err)
		}
	}
}
