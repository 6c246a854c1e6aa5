package authserver

import (
	"encoding/json"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/valetkey/valetkey/oauth"
)

// What is encoded by hand is what encoding/json encodes, for every field. A field that is missing
// must be added to the function that encodes its type.
func TestEncodersHaveEveryField(t *testing.T) {
	hard := "\"\\/<&>\u2028\x00\x1f\x7fé\xff😀"
	for _, text := range []string{"x", hard} {
		var claims accessTokenClaims
		var introspection introspectionResponse
		var response oauth.TokenResponse
		for _, v := range []any{&claims, &introspection.Introspection, &response} {
			fill(t, reflect.ValueOf(v).Elem(), text)
		}
		claims.Extra, claims.Status = nil, nil
		tests := []struct {
			standard any
			encode   func(*jsonObject)
		}{
			{&claims, claims.encode},
			{introspection.Introspection, introspection.encode},
			{response, func(o *jsonObject) { encodeTokenResponse(o, &response) }},
			{oauth.Introspection{}, (&introspectionResponse{}).encode},
			{oauth.TokenResponse{}, func(o *jsonObject) { encodeTokenResponse(o, &oauth.TokenResponse{}) }},
		}
		for _, test := range tests {
			want, err := json.Marshal(test.standard)
			if err != nil {
				t.Fatal(err)
			}
			if got := encoded(t, test.encode); got != string(want) {
				t.Errorf("%T:\n got %s\nwant %s", test.standard, got, want)
			}
		}
	}
}

// fill sets every field to a value that is encoded.
func fill(t *testing.T, v reflect.Value, text string) {
	t.Helper()
	for i := range v.NumField() {
		switch field := v.Field(i); field.Kind() {
		case reflect.String:
			field.SetString(text)
		case reflect.Int64:
			field.SetInt(1<<53 + 1)
		case reflect.Bool:
			field.SetBool(true)
		case reflect.Slice:
			if field.Type() == reflect.TypeFor[[]json.RawMessage]() {
				field.Set(reflect.ValueOf([]json.RawMessage{json.RawMessage(`{"a":"\u2028<"}`)}))
				continue
			}
			field.Set(reflect.ValueOf([]string{text, "b"}).Convert(field.Type()))
		case reflect.Pointer:
			field.Set(reflect.New(field.Type().Elem()))
			fill(t, field.Elem(), text)
		case reflect.Map:
		default:
			t.Fatalf("no value for %s", v.Type().Field(i).Name)
		}
	}
}

func encoded(t *testing.T, encode func(*jsonObject)) string {
	t.Helper()
	o := newJSONObject()
	defer o.release()
	encode(o)
	object, err := o.end()
	if err != nil {
		t.Error(err)
	}
	return string(object)
}

func FuzzJSONObject(f *testing.F) {
	f.Add("ada", "Ada Lovelace", int64(1))
	f.Add("\"", "</script>\\\u2028\xc3\x28", int64(-1))
	f.Add("iss", "\x00\ufffd", int64(1<<62))
	f.Fuzz(func(t *testing.T, name, value string, number int64) {
		o := newJSONObject()
		defer o.release()
		o.anyText("iss", value)
		o.array("amr", []string{value, "", value})
		o.anyNumber("exp", number)
		extra := oauth.Claims{name: value, "z": map[string]any{value: name}, "iss": "replaced"}
		o.claims(extra)
		got, err := o.end()
		if err != nil {
			t.Fatal(err)
		}
		members := map[string]any{name: value, "z": extra["z"], "iss": value, "amr": []string{value, "", value}, "exp": number}
		want, err := json.Marshal(members)
		if err != nil {
			t.Fatal(err)
		}
		var one, other map[string]any
		if err := json.Unmarshal(want, &other); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(got, &one); err != nil {
			t.Fatalf("%s: %v", got, err)
		}
		if diff := cmp.Diff(one, other); diff != "" {
			t.Errorf("%s: %s", got, diff)
		}
		quoted, err := json.Marshal(value)
		if text := string(appendJSONString(nil, value)); err != nil || text != string(quoted) {
			t.Errorf("got %s, want %s", text, quoted)
		}
	})
}

func TestAClaimThatCannotBeEncodedIsAnError(t *testing.T) {
	o := newJSONObject()
	o.claims(oauth.Claims{"a": "x", "b": func() {}})
	if _, err := o.end(); err == nil || !strings.Contains(err.Error(), `encode b`) {
		t.Errorf("got %v", err)
	}
	o.release()
	if o = newJSONObject(); o.err != nil || len(o.names) > 0 {
		t.Errorf("the next object starts with %v, %v", o.err, o.names)
	}
	o.release()
}

// Objects are used again. One must not contain a part of another one.
func TestConcurrentObjectsDoNotMix(t *testing.T) {
	var callers sync.WaitGroup
	for caller := range 8 {
		callers.Go(func() {
			own := string(rune('a' + caller))
			for i := range 500 {
				o := newJSONObject()
				size := (i * 977) % (2 * maxPooledObject)
				o.text("access_token", strings.Repeat(own, 1+size))
				if i%3 == 0 {
					o.value("claim", func() {}) // fails
				}
				o.text("id_token", own)
				got, err := o.end()
				var members map[string]string
				if json.Unmarshal(got, &members) != nil || len(members) != 2 || members["id_token"] != own || strings.Trim(members["access_token"], own) != "" {
					t.Errorf("caller %s got %.60s", own, got)
				}
				if (err != nil) != (i%3 == 0) {
					t.Errorf("error: %v", err)
				}
				o.release()
			}
		})
	}
	callers.Wait()
}

func BenchmarkTokenResponse(b *testing.B) {
	response := &oauth.TokenResponse{
		AccessToken: strings.Repeat("a", 700), TokenType: "Bearer", ExpiresIn: 300, RefreshToken: strings.Repeat("r", 60),
		Scope: "openid offline_access", IDToken: strings.Repeat("i", 600), RefreshTokenTimeout: 1209600, AuthorizationExpiresIn: 2592000,
	}
	b.Run("jsonObject", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			o := newJSONObject()
			encodeTokenResponse(o, response)
			_, _ = o.end()
			o.release()
		}
	})
	b.Run("json.Marshal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = json.Marshal(response)
		}
	})
}

func BenchmarkAccessTokenClaims(b *testing.B) {
	claims := &accessTokenClaims{
		Issuer: "https://login.example.com", Subject: "0123456789012345678901", Audience: oauth.Audience{"https://photos.example.com", "https://login.example.com"},
		ClientID: "app", Expires: 1700000300, IssuedAt: 1700000000, ID: strings.Repeat("j", 67), Scope: "openid offline_access photos:read", AuthTime: 1700000000, AMR: []string{"pwd"},
	}
	b.Run("jsonObject", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			o := newJSONObject()
			claims.encode(o)
			_, _ = o.end()
			o.release()
		}
	})
	b.Run("json.Marshal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = json.Marshal(claims)
		}
	})
}
