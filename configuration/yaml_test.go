package configuration

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	goccy "github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
)

// readYAML reads a text as the value of a claim.
func readYAML(text string) (any, error) {
	root, err := parseYAML([]byte(text))
	if err != nil || root == nil {
		return nil, err
	}
	d := yamlDecoder{name: "v.yaml", lines: map[string]int{}}
	value := d.anything(root, "claim", 0)
	return asJSON(value), errors.Join(d.problems...)
}

// asJSON converts a value to the types of encoding/json.
func asJSON(value any) any {
	document, err := json.Marshal(value)
	if err != nil {
		return err
	}
	var plain any
	if err := json.Unmarshal(document, &plain); err != nil {
		return err
	}
	return plain
}

// Cases of the official YAML 1.2 test suite that have a JSON form are read as that, or refused.
func TestOP10_YAMLTestSuite(t *testing.T) {
	// Not YAML 1.2, but read as if their lines were indented enough.
	lenient := []string{"9C9N", "DK95/01", "QB6E", "S98Z", "Y79Y/003"}
	document, err := os.ReadFile("testdata/yaml-test-suite.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		ID, Name, YAML, JSON string
		Error                bool
	}
	if err := json.Unmarshal(document, &cases); err != nil {
		t.Fatal(err)
	}
	read := 0
	for _, c := range cases {
		got, err := readYAML(c.YAML)
		if c.Error {
			if err == nil && !slices.Contains(lenient, c.ID) {
				t.Errorf("%s (%s) is not YAML, but is read as %v:\n%s", c.ID, c.Name, got, c.YAML)
			}
			continue
		}
		if err != nil {
			continue
		}
		var want, more any
		decoder := json.NewDecoder(strings.NewReader(c.JSON))
		if err := decoder.Decode(&want); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		if err := decoder.Decode(&more); err == nil {
			t.Errorf("%s (%s) has several documents, but is read", c.ID, c.Name)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (%s) is misread (-want +got):\n%s\n%s", c.ID, c.Name, diff, c.YAML)
		}
		read++
	}
	if read < 150 {
		t.Errorf("only %d of %d cases are read", read, len(cases))
	}
}

// Plain scalars are read as YAML 1.2 defines them, or refused with their line.
func TestOP10_PlainScalars(t *testing.T) {
	for text, want := range map[string]any{
		"{scopes: [photos:read]}":          map[string]any{"scopes": []any{"photos:read"}},
		"[a:b, 'c':d]":                     []any{"a:b", map[string]any{"c": "d"}},
		"{a:b: c}":                         map[string]any{"a:b": "c"},
		"{a: urn:example:x, b: [::1]}":     map[string]any{"a": "urn:example:x", "b": []any{"::1"}},
		"[https://a.example/?a=b&c=d#e]":   []any{"https://a.example/?a=b&c=d#e"},
		"{\"a\":b}":                        map[string]any{"a": "b"},
		"[a: b]":                           []any{map[string]any{"a": "b"}},
		"[yes, no, on, off, y, n]":         []any{"yes", "no", "on", "off", "y", "n"},
		"[12:30:45, 2001-01-01, =, 1.2.3]": []any{"12:30:45", "2001-01-01", "=", "1.2.3"},
		"[a,\n 1_000]":                     "v.yaml:2: claim[1]: some YAML parsers read this as a number",
		"\xfe\xff\x00a":                    "the file is not valid UTF-8",
		"[a,\n 0\t1]":                      "v.yaml:2: claim[1]: some YAML parsers read this as a number",
		"[a,\n 0_x1]":                      "v.yaml:2: claim[1]: some YAML parsers read this as a number",
		"[a,\n 0b1]":                       "v.yaml:2: claim[1]: some YAML parsers read this as a number",
		"[0o17, 0x1F, +1, 1e3, .5, -0.0]":  []any{15.0, 31.0, 1.0, 1000.0, 0.5, 0.0},
		"[~, null, Null]":                  []any{nil, nil, nil},
		"[a,\n 0123]":                      "v.yaml:2: claim[1]: a number must not begin with 0",
		"[a,\n 9007199254740993]":          "v.yaml:2: claim[1]: JSON parsers round",
		"[.inf]":                           "v.yaml:1: claim[0]: JSON has no such number",
		"[1e999]":                          "v.yaml:1: claim[0]: the number is too large",
		"a:\nb: c":                         "v.yaml:1: claim.a has no value",
		"a: b\n1: c":                       "v.yaml:2: a key must be a string: put it in quotes",
		"a: b\n? [c]\n: d":                 "v.yaml:2: a key must be a string",
		"a: b\na: c":                       `v.yaml:2: the key "a" is used twice`,
		"a: b\n\"a\": c":                   `v.yaml:2: the key "a" is used twice`,
		"a: b\nc: !!str 1":                 "v.yaml:2: tags such as !!str",
		"a: b\nc: !x 1":                    "v.yaml:2: tags such as !x",
		"a: b\nc: ! 1":                     "v.yaml:2: tags such as !",
		"a: b\nc: !!set {d}":               "v.yaml:2: tags such as !!set",
		"a: b\nc: !!omap [d: e]":           "v.yaml:2: tags such as !!omap",
		"a: b\n!!str c: 1":                 "v.yaml:2: tags such as !!str",
		"a: b\nc: &x 1":                    "v.yaml:2: anchors and aliases",
		"a: &x 1\nb: *x":                   "v.yaml:2: anchors and aliases",
		"a: b\n<<: {c: d}":                 "v.yaml:2: merge keys",
		"a: b\n\"<<\": {c: d}":             map[string]any{"a": "b", "<<": map[string]any{"c": "d"}},
	} {
		got, err := readYAML(text)
		if problem, refused := want.(string); refused {
			if err == nil || !strings.Contains(err.Error(), problem) {
				t.Errorf("%s\nis read as %v, and the error is\n%v\nwithout\n%s", text, got, err, problem)
			}
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s\n(-want +got):\n%s%v", text, diff, err)
		}
	}
}

func TestOP10_FlowScalarsOfAFile(t *testing.T) {
	c, err := parse("v.yaml", []byte("scopes: [{name: photos:read, claims: []}]\n"+
		"resources: [{identifier: urn:example:photos, scopes: [photos:read], introspection_clients: []}]\n"+
		"clients: [{client_id: a, redirect_uris: [https://a.example/cb], post_logout_redirect_uris: [], contacts: [], allowed_origins: []}]\n"+
		"users: [{username: ada, claims: {rights: [photos:read], none: []}}]\ntrusted_proxies: []\nhooks: []\n"), true)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"rights": []any{"photos:read"}, "none": []any{}}
	if diff := cmp.Diff(want, c.Users[0].Claims); diff != "" || c.Resources[0].Scopes[0] != "photos:read" || c.Scopes[0].Name != "photos:read" {
		t.Errorf("scopes %v, resources %v, claims (-want +got):\n%s", c.Scopes, c.Resources, diff)
	}
}

// differs matches texts that the second parser reads differently from YAML 1.2.
var differs = regexp.MustCompile(`:[^\s]|\d[eE]|\.\.\.|---`)

// withoutSpace removes white space, which the second parser folds differently.
func withoutSpace(value any) any {
	switch value := value.(type) {
	case string:
		return strings.Join(strings.Fields(value), "")
	case []any:
		for i := range value {
			value[i] = withoutSpace(value[i])
		}
	case map[string]any:
		plain := map[string]any{}
		for name, member := range value {
			plain[strings.Join(strings.Fields(name), "")] = withoutSpace(member)
		}
		return plain
	}
	return value
}

// numeric matches strings that the second parser may take for numbers: it skips signs and
// tabs. TestOP10_PlainScalars has the strings that must be refused for that reason.
var numeric = regexp.MustCompile(`^[-+.0-9_xobXOBa-fA-F]+$`)

// numericString ignores a string that the second parser takes for a number.
var numericString = cmp.FilterValues(func(a, b any) bool {
	if _, isNumber := a.(float64); !isNumber { // the filter must be symmetric
		a, b = b, a
	}
	_, isNumber := a.(float64)
	text, isString := b.(string)
	return isNumber && isString && numeric.MatchString(text)
}, cmp.Ignore())

// Two independent parsers read a text in the same way, if both accept it.
func FuzzOP10_TwoYAMLParsers(f *testing.F) {
	f.Add(completeFile)
	for _, text := range []string{"{scopes: [photos:read]}", "a: b\nc: [d, e]", "- |\n  x\n- >-\n  y\n", "a: 'it''s'\nb: \"\\u00e4\"", "[0o17, 1e3, yes, ~]"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := readYAML(text)
		if err != nil || differs.MatchString(text) {
			return
		}
		var other any
		if err := goccy.Unmarshal([]byte(text), &other); err != nil {
			return
		}
		if diff := cmp.Diff(withoutSpace(asJSON(other)), withoutSpace(got), numericString); diff != "" {
			t.Errorf("%q is read differently:\n%s", text, diff)
		}
	})
}
