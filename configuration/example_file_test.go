package configuration

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// The example file is valid, and shows every member.
func TestExampleFile(t *testing.T) {
	text, err := os.ReadFile("../valetkey.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parse("valetkey.example.yaml", text, true); err != nil {
		t.Error(err)
	}
	value, root := checkAgainstSchema(t, text), readSchema(t)
	shown := map[string]bool{}
	collectMembers("", value, shown)
	for _, member := range membersOf(root, root, "") {
		// A member that excludes another one can only be shown in a comment.
		name := member[strings.LastIndex(member, ".")+1:]
		exclusive := strings.HasSuffix(name, "_file") || strings.HasPrefix(name, "tls_client_auth_san_") ||
			slices.Contains([]string{"client_certificate_header", "client_certificate_format", "proxy_verifies_certificates", "master_key_command", "previous_master_key_command"}, name)
		if ofServer, ok := strings.CutPrefix(member, "theme.clients[]."); ok && shown["theme."+ofServer] {
			continue // a theme for a client has the members of that of the server
		}
		if !shown[member] && !(exclusive && strings.Contains(string(text), "# "+name+": ")) {
			t.Errorf("%s is not shown", member)
		}
	}
	t.Logf("%d members", len(shown))
}

// Configurations in the documentation are valid. The blocks of a guide are parts of a file, so
// they may refer to names that they do not declare.
func TestConfigurationInTheDocumentation(t *testing.T) {
	pages, err := filepath.Glob("../docs/guides/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append(pages, "../README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for i, block := range strings.Split(string(text), "```") {
			text, ok := strings.CutPrefix(block, "yaml\n")
			if i%2 == 0 || !ok || strings.HasPrefix(text, "volumes:") { // another program's
				continue
			}
			_, err := parse(page, []byte(text), page == "../README.md")
			if err != nil {
				t.Errorf("%v in\n%s", err, text)
			}
			checkAgainstSchema(t, []byte(text))
		}
	}
}

func checkAgainstSchema(t *testing.T, text []byte) any {
	t.Helper()
	document, err := yaml.YAMLToJSON(text)
	if err != nil {
		t.Fatal(err)
	}
	var value any
	if err := json.Unmarshal(document, &value); err != nil {
		t.Fatal(err)
	}
	root := readSchema(t)
	if err := root.check(root, "", value); err != nil {
		t.Error(err)
	}
	return value
}

// membersOf returns the paths of a schema's members, such as clients[].client_id.
func membersOf(root, s *schema, path string) []string {
	s = s.resolve(root)
	var members []string
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		place := strings.TrimPrefix(path+"."+name, ".")
		members = append(members, place)
		members = append(members, membersOf(root, s.Properties[name], place)...)
	}
	if s.Items != nil {
		members = append(members, membersOf(root, s.Items, path+"[]")...)
	}
	return members
}

func collectMembers(path string, value any, shown map[string]bool) {
	switch value := value.(type) {
	case map[string]any:
		for name, member := range value {
			place := strings.TrimPrefix(path+"."+name, ".")
			shown[place] = true
			collectMembers(place, member, shown)
		}
	case []any:
		for _, member := range value {
			collectMembers(path+"[]", member, shown)
		}
	}
}

// The error for a key with one letter too few or too many suggests the right one, in every
// object of the file.
func TestRE35_EveryMisspelledKeyGetsASuggestion(t *testing.T) {
	root := readSchema(t)
	for _, member := range membersOf(root, root, "") {
		if strings.Contains(member, ".jwks.") {
			continue // other parameters of a key set are ignored (RFC 7517, section 5)
		}
		path, key := "", member
		if dot := strings.LastIndex(member, "."); dot >= 0 {
			path, key = member[:dot], member[dot+1:]
		}
		for _, misspelled := range []string{key + "z", key[:1] + "z" + key[1:]} {
			// The enclosing objects, each on its own line.
			var file strings.Builder
			indent := ""
			for _, step := range strings.FieldsFunc(path, func(r rune) bool { return r == '.' }) {
				name, list := strings.CutSuffix(step, "[]")
				fmt.Fprintf(&file, "%s%s:\n", indent, name)
				indent += "  "
				if list {
					fmt.Fprintf(&file, "%s-\n", indent)
					indent += "  "
				}
			}
			fmt.Fprintf(&file, "%s%s: x\n", indent, misspelled)
			where := ""
			if path != "" {
				where = " in " + strings.ReplaceAll(path, "[]", "[0]")
			}
			want := fmt.Sprintf("v.yaml:%d: unknown key %q%s; did you mean %q?", strings.Count(file.String(), "\n"), misspelled, where, key)
			if _, err := parse("v.yaml", []byte(file.String()), true); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("the error is\n%v\nwithout\n%s", err, want)
			}
		}
	}
}
