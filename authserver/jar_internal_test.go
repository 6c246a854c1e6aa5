package authserver

import (
	"testing"
	"time"

	"github.com/valetkey/valetkey/oauth/jose"
)

func TestJA01_TimesOfRequestObjects(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	at := func(d time.Duration) time.Time { return now.Add(d) }
	fapi := requestObjectTimes{maxAge: time.Hour, maxLife: time.Hour}
	for _, test := range []struct {
		name   string
		limits requestObjectTimes
		claims jose.Claims
		want   string
	}{
		{"no claims, no limits", requestObjectTimes{}, jose.Claims{}, ""},
		{"expired", requestObjectTimes{}, jose.Claims{Expires: at(-11 * time.Second)}, "it has expired"},
		{"nbf 8 s ahead", fapi, jose.Claims{NotBefore: at(8 * time.Second), Expires: at(time.Minute)}, ""},
		{"nbf over 60 s ahead", fapi, jose.Claims{NotBefore: at(61 * time.Second), Expires: at(2 * time.Minute)}, "nbf or iat is in the future"},
		{"no exp", fapi, jose.Claims{NotBefore: now}, "exp is missing"},
		{"no nbf", fapi, jose.Claims{Expires: at(time.Minute)}, "nbf is missing"},
		{"nbf 60 minutes ago", fapi, jose.Claims{NotBefore: at(-time.Hour + time.Second), Expires: at(time.Second)}, ""},
		{"nbf 61 minutes ago", fapi, jose.Claims{NotBefore: at(-61 * time.Minute), Expires: at(-5 * time.Second)}, "nbf is more than 1h0m0s ago"},
		{"exp 60 minutes after nbf", fapi, jose.Claims{NotBefore: now, Expires: at(time.Hour)}, ""},
		{"exp 61 minutes after nbf", fapi, jose.Claims{NotBefore: now, Expires: at(61 * time.Minute)}, "exp is more than 1h0m0s after nbf"},
		{"exp 61 minutes ahead", requestObjectTimes{maxAhead: time.Hour}, jose.Claims{Expires: at(61 * time.Minute)}, "exp is more than 1h0m0s in the future"},
		{"no exp, but a limit", requestObjectTimes{maxAhead: time.Hour}, jose.Claims{}, "exp is missing"},
	} {
		if got := test.limits.check(test.claims, now); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}
