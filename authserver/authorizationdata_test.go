package authserver

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
)

func plainAuthorization() authorization {
	return authorization{
		ClientID: "app", Subject: "0123456789012345678901", Grant: "g", Family: "f", Scope: oauth.Scope{"openid", "photos:read"},
		Resources: []string{"https://photos.example.com"}, Audience: []string{}, Session: "s", AuthTime: 1, ACR: "acr", AMR: []string{"pwd", "otp"},
		Started: 2, Issued: 1700000000123,
	}
}

func fullAuthorization() authorization {
	a := plainAuthorization()
	a.Other, a.Details, a.Claims = "other <&>\u2028", []json.RawMessage{json.RawMessage(`{"type":"payment"}`)}, &oauth.ClaimsRequest{IDToken: map[string]*oauth.ClaimRequest{"name": nil}}
	a.ClaimsLocales, a.Extra = []string{"de"}, oauth.Claims{"act": map[string]any{"sub": "service"}}
	a.Confirmation = &oauth.Confirmation{JWKThumbprint: "jkt"}
	a.Code, a.Opaque = &codeBinding{RedirectURI: "https://app.example.com/callback", Nonce: "n"}, &opaqueToken{Audience: []string{"api"}, IssuedAt: 3}
	return a
}

func TestAuthorizationsAreReadAsByEncodingJSON(t *testing.T) {
	for _, a := range []authorization{fullAuthorization(), plainAuthorization(), {}, {ClientID: "\"é"}} {
		ticket, err := a.ticket(storage.Key{}, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		var want authorization
		if err := json.Unmarshal(ticket.Data, &want); err != nil {
			t.Fatal(err)
		}
		if got, err := readAuthorization(ticket); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v, %v", got, want, err)
		}
	}
	plain := plainAuthorization()
	ticket, err := plain.ticket(storage.Key{}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := decodePlain(string(ticket.Data)); !ok || !reflect.DeepEqual(got, plain) {
		t.Errorf("an ordinary authorization: %v, %+v", ok, got)
	}
}

func FuzzDecodePlain(f *testing.F) {
	for _, a := range []authorization{plainAuthorization(), fullAuthorization(), {}} {
		document, err := json.Marshal(&a)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(document))
	}
	for _, s := range []string{
		`{"c":"a"}`, `{"c":"a",}`, `{"c":"a"}x`, `{"o":["a",]}`, `{"o":["a"`, `{"o":[]}`, `{"o":null}`, `{"C":"a"}`, `{"c":"\u0061"}`, `{"c":"é"}`,
		`{"t":01}`, `{"t":-1}`, `{"t":1e3}`, `{"t":9223372036854775808}`, `{"t":999999999999999999}`, `{"t":}`, `{ "c":"a"}`, `{"c":"a","c":"b"}`, `{"o":["]",","]}`, `{`, ``,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, data string) {
		got, ok := decodePlain(data)
		if !ok {
			return
		}
		var want authorization
		if err := json.Unmarshal([]byte(data), &want); err != nil {
			t.Fatalf("%q is not valid: %v", data, err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %+v, want %+v", data, got, want)
		}
	})
}

func BenchmarkReadAuthorization(b *testing.B) {
	a := plainAuthorization()
	ticket, err := a.ticket(storage.Key{}, time.Time{})
	if err != nil {
		b.Fatal(err)
	}
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = readAuthorization(ticket)
		}
	})
	b.Run("json.Unmarshal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var read authorization
			_ = json.Unmarshal(ticket.Data, &read)
		}
	})
}
