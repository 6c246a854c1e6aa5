// Package guides checks the Go snippets of the guides.
package guides

import (
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const module = "github.com/valetkey/valetkey"

// preamble declares what snippets use without declaring it. Unknown names that are not
// declared here belong to the reader's application, and are ignored.
const preamble = `package guides

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strconv"
	"testing"
	"time"

	"MODULE"
	"MODULE/authserver"
	"MODULE/authservertest"
	"MODULE/configuration"
	"MODULE/deviceqr"
	"MODULE/manage/api"
	"MODULE/oauth"
	"MODULE/oauth/client"
	"MODULE/oauth/client/sqlsession"
	"MODULE/oauth/resourceserver"
)

var (
	ctx context.Context
	mux *http.ServeMux
	db *sql.DB
	page fs.FS
	c, there, atHome *client.Client
	tokens *client.Tokens
	config configuration.Configuration
	home, albums, photos, orders http.Handler
	key, cookieKey []byte
	secret, username, password, received, initialAccessToken string
)
`

var (
	snippetOf = regexp.MustCompile("(?s)```go\n(.*?)```")
	omitted   = regexp.MustCompile(`(?m)^\s*….*$`) // a line that replaces others
	fragment  = regexp.MustCompile(`^\w+: `)       // members of a composite literal
	// harmless are errors that occur because a snippet is only a part of a program.
	harmless = regexp.MustCompile(`^undefined: \w+$|declared and not used|imported and not used|is not used$`)
)

// TestSnippets type-checks every Go snippet of the guides against the packages as they are.
func TestSnippets(t *testing.T) {
	guides, err := filepath.Glob("../../docs/guides/*.md")
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	load := importer.ForCompiler(fset, "gc", exportsOf(t, append(packagesOf(t), "github.com/modelcontextprotocol/go-sdk/mcp")))
	snippets := 0
	for _, guide := range guides {
		text, err := os.ReadFile(guide)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range snippetOf.FindAllStringSubmatch(string(text), -1) {
			snippets++
			name := fmt.Sprintf("%s: snippet %d", filepath.Base(guide), snippets)
			file, err := parser.ParseFile(fset, name, wrap(match[1]), parser.SkipObjectResolution)
			if err != nil {
				t.Errorf("%v\n%s", err, match[1])
				continue
			}
			config := types.Config{Importer: load, Error: func(err error) {
				if problem, ok := err.(types.Error); !ok || !harmless.MatchString(problem.Msg) {
					t.Errorf("%v\n%s", err, match[1])
				}
			}}
			config.Check("guides", fset, []*ast.File{file}, nil) // errors go to config.Error
		}
	}
	if snippets < 20 {
		t.Errorf("only %d snippets were found", snippets)
	}
}

// packagesOf returns the packages that the preamble imports.
func packagesOf(t *testing.T) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "preamble", wrap(""), parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, spec := range file.Imports {
		paths = append(paths, strings.Trim(spec.Path.Value, `"`))
	}
	return paths
}

// wrap returns a Go file that contains a snippet.
func wrap(snippet string) string {
	if strings.HasPrefix(snippet, "package ") {
		return snippet
	}
	snippet = omitted.ReplaceAllString(snippet, "")
	snippet = strings.ReplaceAll(snippet, "…", "nil")
	switch {
	case strings.HasPrefix(snippet, "func "):
	case fragment.MatchString(snippet):
		snippet = "var _ = valetkey.Config{\n" + snippet + "\n}"
	case strings.HasPrefix(snippet, "client.RelyingPartyConfig{"):
		snippet = "var _ = " + snippet
	default:
		snippet = "func _() {\n" + snippet + "\n}"
	}
	return strings.ReplaceAll(preamble, "MODULE", module) + snippet
}

// exportsOf returns a lookup of the compiled packages that match the patterns, and of those
// that they import.
func exportsOf(t *testing.T, patterns []string) func(path string) (io.ReadCloser, error) {
	t.Helper()
	list := exec.CommandContext(t.Context(), "go", append([]string{"list", "-e", "-export", "-deps", "-f", "{{.ImportPath}} {{.Export}}"}, patterns...)...)
	list.Stderr = os.Stderr
	output, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	exports := map[string]string{}
	for line := range strings.Lines(string(output)) {
		path, export, _ := strings.Cut(strings.TrimSpace(line), " ")
		exports[path] = export
	}
	return func(path string) (io.ReadCloser, error) {
		if exports[path] == "" {
			return nil, fmt.Errorf("%s is not a package of the guides", path)
		}
		return os.Open(exports[path])
	}
}
