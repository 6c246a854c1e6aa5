package doctor

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

// docs/guides/doctor.md has the content of the table. VALETKEY_UPDATE=1 writes it.
func TestGuideHasTheTable(t *testing.T) {
	const path, begin, end = "../../docs/guides/doctor.md", "<!-- begin: written by internal/doctor -->\n", "<!-- end -->\n"
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(content), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s does not have the comments around the table", path)
	}
	want := before + begin + guide() + end + after
	if want == string(content) {
		return
	}
	if os.Getenv("VALETKEY_UPDATE") == "" {
		t.Fatalf("%s differs from the table; VALETKEY_UPDATE=1 go test ./internal/doctor writes it", path)
	}
	if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

func guide() string {
	var b strings.Builder
	b.WriteString("| finding | severity | meaning |\n| --- | --- | --- |\n")
	for _, name := range slices.Sorted(maps.Keys(Table)) {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", name, Table[name].Severity, Table[name].Title)
	}
	return b.String()
}

// What other servers send is printed on a terminal.
func TestFindingsArePrintable(t *testing.T) {
	report := newReport("https://login.example.com")
	report.add(strings.NewReplacer(), "mcp.no_challenge", "Bearer \x1b]0;title\x07\r\n\u202eevil"+strings.Repeat("x", 2*maxSeen))
	seen := report.Findings[0].Seen
	if strings.ContainsAny(seen, "\x1b\x07\r\n\u202e") || len(seen) > maxSeen+len("…") {
		t.Errorf("seen: %q", seen)
	}
}

func TestBearerChallenge(t *testing.T) {
	for value, want := range map[string]string{
		`Bearer resource_metadata="https://a.example/m", scope="x y"`: "https://a.example/m",
		`DPoP algs="ES256", resource_metadata=https://a.example/m`:    "https://a.example/m",
		`Basic realm="a"`: "",
		`Bearer`:          "",
		`Bearer error`:    "",
		`Bearer a="`:      "",
	} {
		if got := bearerChallenge([]string{value})["resource_metadata"]; got != want {
			t.Errorf("%s: %q, want %q", value, got, want)
		}
	}
}
