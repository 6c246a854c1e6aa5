package client

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/oauth"
)

func FuzzLocalPath(f *testing.F) {
	for _, seed := range []string{"/", "/a?b#c", "//x", `/\x`, "/\t/x", "https://x", "/%2f%2fx", "/a/../..//x", "//@"} {
		f.Add(seed)
	}
	base, err := url.Parse("https://app.example/auth/callback")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, given string) {
		got := localPath(given, "")
		if got == "" {
			return
		}
		// What browsers do before they resolve a reference.
		seen := strings.NewReplacer("\t", "", "\r", "", "\n", "", `\`, "/").Replace(strings.TrimSpace(got))
		u, err := base.Parse(seen)
		if err != nil || u.Host != "app.example" || u.Scheme != "https" || u.User != nil || strings.HasPrefix(u.Path, "//") {
			t.Errorf("%q leads to %v", given, u)
		}
	})
}

func FuzzLogoutTokenClaims(f *testing.F) {
	f.Add(`{"iss":"https://op.example","aud":"app","iat":1,"exp":2,"jti":"j","sid":"s","events":{"http://schemas.openid.net/event/backchannel-logout":{}}}`)
	f.Add(`{"iss":"https://op.example","aud":["app"],"sub":"a","events":[]}`)
	c, err := New(oauth.ServerMetadata{Issuer: "https://op.example"}, Config{Issuer: "https://op.example", ClientID: "app"})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, payload string) {
		logout, err := c.checkLogoutTokenClaims([]byte(payload), time.Unix(1, 0))
		if err == nil && (logout.Issuer != "https://op.example" || logout.ID == "" || logout.Subject+logout.SessionID == "") {
			t.Errorf("taken: %+v", logout)
		}
	})
}
