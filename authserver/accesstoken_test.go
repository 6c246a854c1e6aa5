package authserver

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/valetkey/valetkey/oauth"
)

// Claims that RFC 9068 does not define are read back from an access token, and cannot replace
// those that it defines.
func TestOtherClaimsOfAccessTokens(t *testing.T) {
	claims := accessTokenClaims{Issuer: "https://server.example.com", Subject: "ada", Audience: oauth.Audience{"https://api.example.com"}, Expires: 2, IssuedAt: 1, ID: "x"}
	claims.Extra = oauth.Claims{"act": map[string]any{"sub": "service"}, "department": "optics"}
	payload, err := encodeClaims(&claims)
	if err != nil {
		t.Fatal(err)
	}
	read, err := readAccessTokenClaims(payload)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&claims, read); diff != "" {
		t.Error(diff)
	}

	claims.Extra["sub"] = "mallory"
	if payload, err = encodeClaims(&claims); err != nil {
		t.Fatal(err)
	}
	if read, err = readAccessTokenClaims(payload); err != nil || read.Subject != "ada" || read.Extra["sub"] != nil {
		t.Errorf("sub was overwritten: %s", payload)
	}
}

func encodeClaims(claims *accessTokenClaims) ([]byte, error) {
	o := newJSONObject()
	claims.encode(o)
	return o.end()
}

func TestAccessTokenClaimNames(t *testing.T) {
	var claims accessTokenClaims
	v := reflect.ValueOf(&claims).Elem()
	for i := range v.NumField() {
		switch field := v.Field(i); field.Kind() {
		case reflect.String:
			field.SetString("x")
		case reflect.Int64:
			field.SetInt(1)
		case reflect.Slice:
			if field.Type() == reflect.TypeFor[[]json.RawMessage]() {
				field.Set(reflect.ValueOf([]json.RawMessage{json.RawMessage("{}")}))
				continue
			}
			field.Set(reflect.ValueOf([]string{"x"}).Convert(field.Type()))
		}
	}
	payload, err := json.Marshal(&claims)
	if err != nil {
		t.Fatal(err)
	}
	if read, err := readAccessTokenClaims(payload); err != nil || read.Extra != nil {
		t.Errorf("not all names are listed: %v, %v", read.Extra, err)
	}
}
