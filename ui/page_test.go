package ui

import "testing"

// The templates are not parsed when a server starts, so a broken one must be found here.
func TestAllTemplatesParse(t *testing.T) {
	parsed, err := parseTemplates()
	if err != nil {
		t.Fatal(err)
	}
	for name, page := range parsed {
		if page.Lookup("layout.html") == nil {
			t.Errorf("%s: the layout is missing", name)
		}
	}
}
