package client_test

import (
	"errors"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
)

func TestST04_IssuerOfMetadataMustBeTheConfiguredOne(t *testing.T) {
	for _, issuer := range []string{
		"", "http://localhost/", "http://LOCALHOST", "http://localhost/tenant", "https://localhost", "http://localhost:80",
	} {
		t.Run(issuer, func(t *testing.T) {
			p := newProvider(t)
			p.metadata["issuer"] = issuer
			if _, err := client.Discover(t.Context(), p.config()); !errors.Is(err, client.ErrMetadata) {
				t.Errorf("metadata of issuer %q was accepted: %v", issuer, err)
			}
		})
	}
}

func TestRS09_EndpointsAreEncrypted(t *testing.T) {
	for name, test := range map[string]struct {
		issuer string
		change func(*oauth.ServerMetadata)
	}{
		"issuer":                        {"http://op.example", func(*oauth.ServerMetadata) {}},
		"issuer with query":             {"https://op.example?tenant=1", func(*oauth.ServerMetadata) {}},
		"issuer with a user":            {"https://me@op.example", func(*oauth.ServerMetadata) {}},
		"issuer without a host":         {"https:op.example", func(*oauth.ServerMetadata) {}},
		"token endpoint":                {"https://op.example", func(m *oauth.ServerMetadata) { m.TokenEndpoint = "http://op.example/token" }},
		"keys":                          {"https://op.example", func(m *oauth.ServerMetadata) { m.JWKSURI = "http://op.example/jwks" }},
		"the client's own machine":      {"https://op.example", func(m *oauth.ServerMetadata) { m.UserinfoEndpoint = "http://127.0.0.1/admin" }},
		"remote endpoint, local issuer": {"http://127.0.0.1", func(m *oauth.ServerMetadata) { m.TokenEndpoint = "http://op.example/token" }},
		"script":                        {"https://op.example", func(m *oauth.ServerMetadata) { m.AuthorizationEndpoint = "javascript:alert(1)" }},
		"file":                          {"https://op.example", func(m *oauth.ServerMetadata) { m.JWKSURI = "file:///etc/passwd" }},
		"fragment":                      {"https://op.example", func(m *oauth.ServerMetadata) { m.EndSessionEndpoint = "https://op.example/#a" }},
		"user":                          {"https://op.example", func(m *oauth.ServerMetadata) { m.RevocationEndpoint = "https://a:b@op.example/" }},
		"relative":                      {"https://op.example", func(m *oauth.ServerMetadata) { m.TokenEndpoint = "/token" }},
		"not a URL":                     {"https://op.example", func(m *oauth.ServerMetadata) { m.TokenEndpoint = "https://op.example/%zz" }},
		"userinfo of another scheme":    {"https://op.example", func(m *oauth.ServerMetadata) { m.UserinfoEndpoint = "ftp://op.example/" }},
	} {
		t.Run(name, func(t *testing.T) {
			metadata := oauth.ServerMetadata{Issuer: test.issuer, TokenEndpoint: test.issuer + "/token"}
			test.change(&metadata)
			_, err := client.New(metadata, client.Config{Issuer: test.issuer, ClientID: "app"})
			if !errors.Is(err, client.ErrMetadata) {
				t.Errorf("got %v, want ErrMetadata", err)
			}
		})
	}
}

// Every endpoint that metadata can contain, including future ones.
func TestRS09_EveryEndpointIsEncrypted(t *testing.T) {
	v := reflect.TypeFor[oauth.ServerMetadata]()
	checked := 0
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Field(i).Tag.Get("json"), ",")
		if v.Field(i).Type.Kind() != reflect.String || !strings.HasSuffix(name, "_endpoint") && name != "jwks_uri" && name != "check_session_iframe" {
			continue
		}
		checked++
		for _, address := range []string{"http://op.example/x", "http://127.0.0.1/x", "javascript:alert(1)", "https://user:pass@op.example/", "https://op.example/#x", "/relative"} {
			m := oauth.ServerMetadata{Issuer: "https://op.example"}
			reflect.ValueOf(&m).Elem().Field(i).SetString(address)
			if _, err := client.New(m, client.Config{Issuer: "https://op.example", ClientID: "app"}); !errors.Is(err, client.ErrMetadata) {
				t.Errorf("%s is %s: %v", name, address, err)
			}
		}
	}
	if checked < 12 {
		t.Errorf("only %d endpoints", checked)
	}
}

func TestRS09_ResponsesAreLimited(t *testing.T) {
	t.Run("size", func(t *testing.T) {
		p := newProvider(t)
		sent := make(chan int, 1)
		p.handlers["/.well-known/openid-configuration"] = func(w http.ResponseWriter, r *http.Request) {
			sent <- endless(w, strings.Repeat(" ", 1<<16))
		}
		if _, err := client.Discover(t.Context(), p.config()); !errors.Is(err, client.ErrResponse) {
			t.Errorf("got %v, want ErrResponse", err)
		}
		if n := <-sent; n > 2<<20 {
			t.Errorf("%d bytes were read", n)
		}
	})
	t.Run("time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := newProvider(t)
			p.handlers["/.well-known/openid-configuration"] = drip
			start := time.Now()
			if _, err := client.Discover(t.Context(), p.config()); err == nil {
				t.Error("an endless response was accepted")
			}
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	})
}

func TestRS08_DiscoveryFollowsNoRedirect(t *testing.T) {
	p := newProvider(t)
	p.handlers["/.well-known/openid-configuration"] = func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/elsewhere", http.StatusFound)
	}
	p.handlers["/elsewhere"] = func(w http.ResponseWriter, r *http.Request) { writeJSON(w, 200, p.metadata) }
	if _, err := client.Discover(t.Context(), p.config()); !errors.Is(err, client.ErrResponse) {
		t.Errorf("got %v, want ErrResponse", err)
	}
	if p.count("/elsewhere") != 0 {
		t.Error("the redirect was followed")
	}
}

func TestDiscoverLocations(t *testing.T) {
	for name, test := range map[string]struct{ issuer, at string }{
		"OpenID":                       {"http://localhost", "/.well-known/openid-configuration"},
		"OpenID with a path":           {"http://localhost/tenant", "/tenant/.well-known/openid-configuration"},
		"OpenID with a trailing slash": {"http://localhost/tenant/", "/tenant/.well-known/openid-configuration"},
		"OAuth":                        {"http://localhost", "/.well-known/oauth-authorization-server"},
		"OAuth with a path":            {"http://localhost/tenant", "/.well-known/oauth-authorization-server/tenant"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProvider(t)
			p.metadata["issuer"] = test.issuer
			p.handlers["/.well-known/openid-configuration"] = http.NotFound
			p.handlers[test.at] = func(w http.ResponseWriter, r *http.Request) { writeJSON(w, 200, p.metadata) }
			config := p.config()
			config.Issuer = test.issuer
			c, err := client.Discover(t.Context(), config)
			if err != nil {
				t.Fatal(err)
			}
			if got := c.Metadata().TokenEndpoint; got != "http://localhost/token" {
				t.Errorf("token endpoint is %q", got)
			}
		})
	}
}

func TestDiscoverRejectsInvalidResponses(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"nothing": http.NotFound,
		"HTML": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			w.Write([]byte("<!doctype html><title>Welcome</title>"))
		},
		"failure": func(w http.ResponseWriter, r *http.Request) { http.Error(w, "{}", http.StatusBadGateway) },
		"array":   func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("[]")) },
	} {
		t.Run(name, func(t *testing.T) {
			p := newProvider(t)
			p.handlers["/.well-known/openid-configuration"] = handler
			if _, err := client.Discover(t.Context(), p.config()); !errors.Is(err, client.ErrMetadata) {
				t.Errorf("got %v, want ErrMetadata", err)
			}
		})
	}
}
