package authserver_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every parameter that an endpoint reads is refused in the URL of a POST.
func TestHP02_ParametersInTheURLOfAPostAreRefused(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{confidential("app")}})
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	read := regexp.MustCompile(`params\.(?:get|has|all)\("([a-z_]+)"\)`)
	seen := map[string]bool{}
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		for _, match := range read.FindAllStringSubmatch(string(source), -1) {
			seen[match[1]] = true
		}
	}
	if len(seen) < 30 {
		t.Fatalf("the sources read %d parameters; the regular expression is out of date", len(seen))
	}
	for name := range seen {
		r := httptest.NewRequest(http.MethodPost, "/token?"+name+"=x", strings.NewReader("grant_type=client_credentials"))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.SetBasicAuth("app", testSecret)
		if a := s.do(r); a.status != http.StatusBadRequest || !strings.Contains(a.body, "never in the URL") {
			t.Errorf("%s in the URL: %d %s", name, a.status, a.body)
		}
	}
}
