package main

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/valetkey/valetkey/configuration"
)

// TestFAPIConfiguration reads the server's configuration for all FAPI plans: their clients meet
// their profiles.
func TestFAPIConfiguration(t *testing.T) {
	all := append(fapiPlans(), cibaPlans()...)
	suite := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(suite.Close)
	api, err := listenAPI()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(api.stop)
	directory := t.TempDir()
	s := &server{issuer: "https://localhost:9999", api: api}
	if err := s.configure(t.Context(), directory, "", newSuite(suite.URL), all); err != nil {
		t.Fatal(err)
	}
	config, err := configuration.Read(filepath.Join(directory, "valetkey.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if len(config.Clients) != 2*len(all)+1 {
		t.Errorf("%d clients for %d plans", len(config.Clients), len(all))
	}
	labels := map[string]bool{}
	for i := range all {
		p := &all[i]
		if labels[p.Label] {
			t.Errorf("two plans have the label %s", p.Label)
		}
		labels[p.Label] = true
		if switches := p.switches(); len(switches) > 0 {
			t.Errorf("%s: switches %v", p.Label, switches)
		}
		c := p.configuration(s.issuer, api.url)
		scope := c["client"].(map[string]any)["scope"].(string)
		if slices.Contains(strings.Fields(scope), "openid") != (p.Variant["openid"] == "openid_connect" || p.isFAPI1() || p.isCIBA()) {
			t.Errorf("%s: scope %q", p.Label, scope)
		}
	}
}

// TestBrowserLooks opens a page with a form and does not submit it.
func TestBrowserLooks(t *testing.T) {
	submitted := false
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPost:
			submitted = r.FormValue("identifier") == "ada"
		case r.URL.Path == "/authorize":
			http.Redirect(w, r, "/sign-in", http.StatusSeeOther)
		default:
			w.Write([]byte(`<form method="post" action="/sign-in"><input name="identifier"></form>`))
		}
	}))
	t.Cleanup(site.Close)
	b, err := newBrowser(site.URL)
	if err != nil {
		t.Fatal(err)
	}
	for _, visit := range []struct {
		open func() error
		want bool
	}{
		{func() error { return b.look(t.Context(), site.URL+"/authorize") }, false},
		{func() error { return b.visit(t.Context(), site.URL+"/authorize") }, true},
	} {
		if err := visit.open(); err != nil {
			t.Fatal(err)
		}
		if submitted != visit.want {
			t.Errorf("the form was submitted: %v", submitted)
		}
	}
}
