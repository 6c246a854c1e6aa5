package client_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/valetkey/valetkey/oauth/client"
)

func TestFindIssuerUsesTheHostOfTheIdentifier(t *testing.T) {
	var asked url.Values
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/.well-known/webfinger" {
			http.NotFound(w, r)
			return
		}
		asked = r.URL.Query()
		writeJSON(w, http.StatusOK, map[string]any{"subject": asked.Get("resource"), "links": []any{
			map[string]any{"rel": "http://webfinger.net/rel/avatar", "href": "https://example.com/a.png"},
			map[string]any{"rel": "http://openid.net/specs/connect/1.0/issuer", "href": "https://op.example/tenant"},
		}})
	}))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "https://")
	for identifier, resource := range map[string]string{
		"alice@" + host:                   "acct:alice@" + host,
		"acct:alice@" + host:              "acct:alice@" + host,
		"acct:alice@example.com@" + host:  "acct:alice@example.com@" + host,
		" alice@" + host + " ":            "acct:alice@" + host,
		"https://" + host + "/alice":      "https://" + host + "/alice",
		"https://" + host + "/a?b=c#frag": "https://" + host + "/a?b=c",
		host + "/alice":                   "https://" + host + "/alice",
		host:                              "https://" + host,
	} {
		issuer, err := client.FindIssuer(t.Context(), identifier, server.Client())
		if err != nil || issuer != "https://op.example/tenant" {
			t.Errorf("%q: %q, %v", identifier, issuer, err)
			continue
		}
		if asked.Get("resource") != resource || asked.Get("rel") != "http://openid.net/specs/connect/1.0/issuer" {
			t.Errorf("%q: requested resource %v, want %q", identifier, asked, resource)
		}
	}
}

func TestFindIssuerRejectsInvalidIdentifiers(t *testing.T) {
	response, status := "", http.StatusOK
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if status == http.StatusFound {
			http.Redirect(w, r, "https://evil.example/", status)
			return
		}
		w.WriteHeader(status)
		w.Write([]byte(response))
	}))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "https://")
	for _, identifier := range []string{
		"", " ", "=alice", "@alice", "!alice", "alice@", "acct:alice", "acct:", "http://" + host, "ftp://" + host, "alice@" + host + "/x",
		"alice@user@" + host + "?x", "https://", "https:///path", "alice@exa mple.com", "alice@a\\b", strings.Repeat("a", 3000) + "@" + host, "alice@a:b:c", "javascript:alert(1)",
	} {
		if issuer, err := client.FindIssuer(t.Context(), identifier, server.Client()); err == nil {
			t.Errorf("%q is accepted: %s", identifier, issuer)
		}
	}
	link := func(href string) string {
		return `{"links":[{"rel":"http://openid.net/specs/connect/1.0/issuer","href":"` + href + `"}]}`
	}
	for _, test := range []struct {
		status   int
		response string
		want     error
	}{
		{http.StatusNotFound, link("https://op.example"), client.ErrResponse},
		{http.StatusFound, "", client.ErrResponse},
		{http.StatusOK, "<html>", client.ErrResponse},
		{http.StatusOK, `{"links":[]}`, client.ErrResponse},
		{http.StatusOK, `{"links":[{"rel":"self","href":"https://op.example"}]}`, client.ErrResponse},
		{http.StatusOK, link("http://op.example"), client.ErrMetadata},
		{http.StatusOK, link("http://127.0.0.1"), client.ErrMetadata},
		{http.StatusOK, link("https://op.example?x"), client.ErrMetadata},
		{http.StatusOK, link("https://op.example#x"), client.ErrMetadata},
		{http.StatusOK, link("https://user@op.example"), client.ErrMetadata},
		{http.StatusOK, link("javascript:alert(1)"), client.ErrMetadata},
	} {
		status, response = test.status, test.response
		if _, err := client.FindIssuer(t.Context(), "alice@"+host, server.Client()); !errors.Is(err, test.want) {
			t.Errorf("%d %s: %v", test.status, test.response, err)
		}
	}
}
