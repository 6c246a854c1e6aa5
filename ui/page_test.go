package ui

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// The templates are not parsed when a server starts, so a broken one must be found here.
func TestAllTemplatesParse(t *testing.T) {
	parsed, err := parseTemplates("")
	if err != nil {
		t.Fatal(err)
	}
	for name, page := range parsed {
		if page.Lookup("layout.html") == nil {
			t.Errorf("%s: the layout is missing", name)
		}
	}
}

// Every page can be shown with sample data, as the operator's own templates are checked.
func TestTemplatesAreChecked(t *testing.T) {
	parsed, err := parseTemplates("")
	if err != nil {
		t.Fatal(err)
	}
	for name := range parsed {
		if pageData[name] == nil {
			t.Errorf("pageData lacks the page %s", name)
		}
	}
	for name, page := range samplePages {
		if want := pageData[page.template]; page.data != nil && reflect.TypeOf(want) != reflect.TypeOf(page.data) {
			t.Errorf("pageData[%q] is a %T, but the page %s has a %T", page.template, want, name, page.data)
		}
	}
	write := func(name, content string) string {
		directory := t.TempDir()
		path := filepath.Join(directory, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return directory
	}
	if err := CheckTemplates(write(".keep", "")); err != nil {
		t.Errorf("the built-in templates: %v", err)
	}
	for name, content := range map[string]string{
		"sign-in.html":          "{{define \"content\"}}\n<p>{{.Data.Nam}}</p>{{end}}",
		"consent.html":          "{{define \"content\"}}\n{{if .Data.Native}}{{t \"no.such-text\"}}{{end}}{{end}}",
		"account/sessions.html": "{{define \"account-sessions\"}}\n{{range .Data.Sessions}}{{.Browsers}}{{end}}{{end}}",
		"layout.html":           "{{template \"content\" .}}\n{{.Foo}}",
		"device.html":           "{{define \"content\"}}\n{{if}}{{end}}",
	} {
		err := CheckTemplates(write(name, content))
		if err == nil || !strings.Contains(err.Error(), filepath.Base(name)+":2") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := CheckTemplates(write("sign_in.html", "x")); err == nil || !strings.Contains(err.Error(), "sign_in.html") {
		t.Errorf("an unknown name: %v", err)
	}
	if err := CheckTemplates("no-such-directory"); err == nil {
		t.Error("a missing directory is accepted")
	}
}

// A page comes from the operator's template, with the texts and the theme of the server.
func TestOwnTemplate(t *testing.T) {
	directory := t.TempDir()
	own := "{{define \"content\"}}<h1>{{t \"sign-in.title\"}}</h1><p>Ours</p>{{end}}"
	if err := os.WriteFile(filepath.Join(directory, "forgot.html"), []byte(own), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWorldWithMail(t, func(c *Config) { c.PageTemplates = directory })
	w.newBrowser().get("/forgot").want(t, 200, "<h1>Sign in</h1><p>Ours</p>", "<header")
	w.newBrowser().get("/sign-in").want(t, 200, "identifier")
}
