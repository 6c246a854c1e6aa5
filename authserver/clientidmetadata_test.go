package authserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/internal/outgoing"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/record"
)

const documentID = "https://app.example.com/client.json"

// readDocument reads a document that has these members.
func readDocument(members string) (*record.Client, error) {
	s := &Server{profile: profileNamed(""), config: Config{Issuer: "https://server.example.com", MetadataDocuments: MetadataDocumentPolicy{Scope: oauth.Scope{"openid", "files.read"}}}}
	return s.readClientDocument(&catalogue{}, documentID, []byte("{"+members+"}"))
}

func TestDC13_InvalidDocumentsAreRefused(t *testing.T) {
	const good = `"client_id": "` + documentID + `", "redirect_uris": ["http://localhost/callback"]`
	if _, err := readDocument(good); err != nil {
		t.Fatal(err)
	}
	for members, reason := range map[string]string{
		`"redirect_uris": ["http://localhost/callback"]`:                                           `its client_id is ""`,
		`"client_id": "` + documentID + `/", "redirect_uris": ["http://localhost/callback"]`:       "its client_id is",
		good + `, "client_secret": "x"`:                                                            "a metadata document must not have client_secret",
		good + `, "client_secret_expires_at": 0`:                                                   "a metadata document must not have client_secret_expires_at",
		good + `, "client_secret": null`:                                                           "a metadata document must not have client_secret",
		good + `, "token_endpoint_auth_method": "client_secret_basic"`:                             "neither none nor private_key_jwt",
		good + `, "token_endpoint_auth_method": "tls_client_auth"`:                                 "neither none nor private_key_jwt",
		good + `, "token_endpoint_auth_method": "private_key_jwt"`:                                 "needs jwks or jwks_uri",
		good + `, "userinfo_signed_response_alg": "HS256"`:                                         "needs a client_secret",
		good + `, "id_token_encrypted_response_alg": "dir"`:                                        "needs a client_secret",
		good + `, "jwks": {"keys": [{"kty": "oct", "k": "AAAA"}]}`:                                 "private or symmetric",
		good + `, "jwks": {"keys": []}, "jwks_uri": "https://app.example.com/jwks"`:                "cannot be used together",
		good + `, "sector_identifier_uri": "https://app.example.com/sector"`:                       "sector_identifier_uri",
		good + `, "client_name": 7`:                                                                "client_name: the value has the wrong type",
		good + `, "client_id": "` + documentID + `"`:                                               "",
		`"client_id": "` + documentID + `", "redirect_uris": ["http://app.example/cb", "myapp:/"]`: "redirect_uris[0]: http is allowed for loopback only",
		good + `, "grant_types": ["implicit"], "response_types": ["token"]`:                        "https URIs only",
		good + `, "scope": "files.write"`:                                                          "none of these scopes is allowed",
		good + `, "client_uri": "javascript:alert(1)"`:                                             "client_uri",
		good + `, "logo_uri": "http://app.example/logo.png"`:                                       "logo_uri",
	} {
		client, err := readDocument(members)
		if err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%s\nerror %v, want %q (%+v)", members, err, reason, client)
		}
	}
}

// Members that a document must not set are ignored.
func TestDC02_DC04_DocumentsCannotGrantThemselvesRights(t *testing.T) {
	client, err := readDocument(`"client_id": "` + documentID + `", "redirect_uris": ["http://localhost/callback", "cursor://x/cb"],
		"scope": "openid files.read files.write", "grant_types": ["authorization_code", "client_credentials", "refresh_token"],
		"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "https://app.example.com/jwks",
		"skip_consent": true, "resources": ["x"], "registration": {"vouched": true}, "Secrets": ["x"]`)
	if err != nil {
		t.Fatal(err)
	}
	if client.Scope != "openid files.read" || !slices.Equal(client.GrantTypes, []string{"authorization_code", "refresh_token"}) ||
		!slices.Equal(client.RedirectURIs, []string{"http://localhost/callback"}) || client.SkipConsent || client.Secrets != nil ||
		client.Resources != nil || client.Registration.Vouched {
		t.Errorf("the client is %+v, %+v", client, client.Registration)
	}
}

func TestDC12_AllowedHosts(t *testing.T) {
	for allowed, want := range map[string]map[string]bool{
		"*": {
			"https://app.example.com/c": true, "https://a.b.c/d": true, "https://app.example.com:8443/c": false, "https://app.example.com:443/c": false,
			"https://app.example.com": false, "https://app.example.com/": true, "http://app.example.com/c": false, "https://app.example.com/c?x": false,
		},
		"app.example.com":      {"https://app.example.com/c": true, "https://APP.example.com/c": true, "https://app.example.com.evil.test/c": false, "https://evil.test/app.example.com": false, "https://x.app.example.com/c": false, "https://app.example.com@evil.test/c": false},
		"*.example.com":        {"https://app.example.com/c": true, "https://a.b.example.com/c": true, "https://example.com/c": false, "https://evilexample.com/c": false, "https://app.example.com:8443/c": false},
		"app.example.com:8443": {"https://app.example.com:8443/c": true, "https://app.example.com/c": false},
		"":                     {"https://app.example.com/c": false},
	} {
		policy := MetadataDocumentPolicy{AllowedHosts: []string{allowed}}
		if allowed == "" {
			policy.AllowedHosts = nil
		}
		for id, want := range want {
			if got := policy.allows(id); got != want {
				t.Errorf("with %q, %q is allowed: %v", allowed, id, got)
			}
		}
	}
}

func TestDC14_DocumentLifetime(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	at := func(d time.Duration) string { return now.Add(d).Format(http.TimeFormat) }
	for _, test := range []struct {
		header []string
		want   time.Duration
	}{
		{nil, 10 * time.Minute},
		{[]string{"Cache-Control", "max-age=300"}, 5 * time.Minute},
		{[]string{"Cache-Control", `Public , MAX-AGE="300"`}, 5 * time.Minute},
		{[]string{"Cache-Control", "max-age=300, s-maxage=600"}, 10 * time.Minute},
		{[]string{"Cache-Control", "s-maxage=600, max-age=300"}, 10 * time.Minute},
		{[]string{"Cache-Control", "max-age=300", "Age", "100"}, 200 * time.Second},
		{[]string{"Cache-Control", "max-age=0"}, time.Minute},
		{[]string{"Cache-Control", "no-store, max-age=3600"}, time.Minute},
		{[]string{"Cache-Control", "no-cache"}, time.Minute},
		{[]string{"Cache-Control", "max-age=31536000"}, 24 * time.Hour},
		{[]string{"Cache-Control", "max-age=99999999999999999999"}, 10 * time.Minute},
		{[]string{"Cache-Control", "max-age=-5"}, time.Minute},
		{[]string{"Expires", at(30 * time.Minute), "Date", at(0)}, 30 * time.Minute},
		{[]string{"Expires", at(30 * time.Minute)}, 30 * time.Minute},
		{[]string{"Expires", at(30 * time.Minute), "Cache-Control", "max-age=120"}, 2 * time.Minute},
		{[]string{"Expires", "0"}, time.Minute},
		{[]string{"Expires", at(-time.Hour)}, time.Minute},
	} {
		header := http.Header{}
		for i := 0; i < len(test.header); i += 2 {
			header.Add(test.header[i], test.header[i+1])
		}
		if got := documentLifetime(header, now); got != test.want {
			t.Errorf("%q: fresh for %s, want %s", test.header, got, test.want)
		}
	}
}

func newDocuments() *clientDocuments {
	k := &clientDocuments{}
	k.limit()
	return k
}

// The cache of documents is bounded; the least recently used one is evicted.
func TestDC17_TheCacheIsBounded(t *testing.T) {
	k := newDocuments()
	start := time.Now()
	put := func(i int) {
		now := start.Add(time.Duration(i) * time.Minute) // so that the limits for a minute do not apply
		id := fmt.Sprintf("https://%d.example/c", i)
		d, fetch, err := k.find(id, netip.Addr{}, false, now)
		if err != nil || !fetch {
			t.Fatalf("%d: %v %v", i, fetch, err)
		}
		k.finish(id, d, &client{Client: &record.Client{ID: id}}, maxDocumentLifetime, nil, now)
		k.last("https://0.example/c", now) // the first document stays in use
	}
	for i := range maxClientDocuments + 100 {
		put(i)
	}
	if len(k.byID) != maxClientDocuments || k.byID["https://0.example/c"] == nil || k.byID["https://1.example/c"] != nil {
		t.Errorf("%d documents are cached", len(k.byID))
	}
}

// Fetches are limited by address, by host and in total. The limits do not affect a document that is
// in the cache.
func TestDC17_FetchesAreLimited(t *testing.T) {
	now := time.Now()
	from := netip.MustParseAddr("192.0.2.1")
	fail := func(k *clientDocuments, id string, from netip.Addr, now time.Time) error {
		d, fetch, err := k.find(id, from, false, now)
		if fetch {
			k.finish(id, d, nil, 0, outgoing.ErrFetch, now)
		}
		return err
	}

	k := newDocuments()
	for i := range documentsPerMinute {
		if err := fail(k, fmt.Sprintf("https://%d.example/c", i), from, now); err != nil {
			t.Fatal(err)
		}
	}
	if err := fail(k, "https://x.example/c", from, now); !errors.Is(err, errDocumentPace) {
		t.Errorf("one more fetch for the address: %v", err)
	}
	if err := fail(k, "https://x.example/c", netip.MustParseAddr("192.0.2.2"), now); err != nil {
		t.Errorf("a fetch for another address: %v", err)
	}
	if err := fail(k, "https://x.example/c", from, now.Add(time.Minute)); err != nil {
		t.Errorf("a minute later: %v", err)
	}
	if len(k.byID) != 0 {
		t.Errorf("%d failures are cached", len(k.byID))
	}

	k = newDocuments()
	d, _, err := k.find("https://host.example/good", netip.Addr{}, false, now)
	if err != nil {
		t.Fatal(err)
	}
	k.finish("https://host.example/good", d, &client{}, time.Second, nil, now)
	for i := range documentsPerMinutePerHost - 1 {
		if err := fail(k, fmt.Sprintf("https://host.example/%d", i), netip.Addr{}, now); err != nil {
			t.Fatal(err)
		}
	}
	if err := fail(k, "https://host.example/x", netip.Addr{}, now); !errors.Is(err, errDocumentPace) {
		t.Errorf("one more fetch from the host: %v", err)
	}
	if _, fetch, err := k.find("https://host.example/good", from, false, now.Add(2*time.Second)); err != nil || !fetch {
		t.Errorf("the host's cached document: %v, %v", fetch, err)
	}

	k = newDocuments()
	for i := range maxDocumentFetches {
		if _, fetch, err := k.find(fmt.Sprintf("https://%d.example/c", i), netip.Addr{}, false, now); !fetch || err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := k.find("https://x.example/c", netip.Addr{}, false, now); !errors.Is(err, errDocumentPace) {
		t.Errorf("one more concurrent fetch: %v", err)
	}
}

// Concurrent requests for a document wait for one fetch. A canceled request stops waiting.
func TestDC17_ConcurrentRequestsShareOneFetch(t *testing.T) {
	k := newDocuments()
	now := time.Now()
	d, fetch, err := k.find(documentID, netip.Addr{}, false, now)
	if err != nil || !fetch {
		t.Fatal(err)
	}
	if _, fetch, err := k.find(documentID, netip.Addr{}, false, now); err != nil || fetch {
		t.Errorf("the second request fetches the document too: %v, %v", fetch, err)
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := k.wait(canceled, d, now); !errors.Is(err, context.Canceled) {
		t.Errorf("a canceled request: %v", err)
	}
	want := &client{}
	k.finish(documentID, d, want, time.Minute, nil, now)
	if got, err := k.wait(canceled, d, now); got != want || err != nil {
		t.Errorf("after the fetch: %v", err)
	}
}

// A client with a metadata document has no secret, and only redirect URIs that could be registered.
func FuzzClientDocument(f *testing.F) {
	for _, seed := range []string{
		`"client_id": "` + documentID + `", "redirect_uris": ["http://localhost/callback"]`,
		`"client_id": "` + documentID + `", "redirect_uris": ["https://a.example/cb", "javascript:x"], "token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "https://a.example/jwks"`,
		`"client_id": "` + documentID + `", "redirect_uris": ["com.example.app:/cb"], "application_type": "native", "client_name#ja": "x", "scope": "openid"`,
		`"client_id": "` + documentID + `", "client_secret": "x", "jwks": {"keys": [{"kty": "oct"}]}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, members string) {
		client, err := readDocument(members)
		if err != nil {
			return
		}
		if client.ID != documentID || len(client.Secrets) > 0 || client.SkipConsent || client.Registration == nil || client.Registration.Vouched ||
			client.TokenEndpointAuthMethod != oauth.AuthMethodNone && client.TokenEndpointAuthMethod != oauth.AuthMethodPrivateKeyJWT {
			t.Errorf("%s\nis read as %+v", members, client)
		}
		for _, uri := range client.RedirectURIs {
			if err := oauth.CheckRedirectURI(uri, client.ApplicationType); err != nil {
				t.Errorf("%s\nhas the redirect URI %q: %v", members, uri, err)
			}
		}
		if problems := CheckClient(*client); len(problems) > 0 {
			t.Errorf("%s\nhas problems: %v", members, problems)
		}
	})
}
