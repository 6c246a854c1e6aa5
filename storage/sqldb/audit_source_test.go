package sqldb

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// unaudited are functions that write records without an audit record, with the reason.
var unaudited = map[string]string{
	"lockGrant":            "UpdateGrant records the grant",
	"deleteGrantsOfClient": "the caller records how many",
	"endUserAgain":         "it repeats what a recorded change has ended",
	"note":                 "which source declares a record is in declarations.applied",
	"storeRecord":          "the caller compares the rows",
	"client":               "updateClient records it",
	"takeOver":             "only the name of the source changes",
	"insertKey":            "UpdateKeys records the keys",
	"resealClients":        "the secrets stay the same; RotateMasterKey records the rotation",
	"users":                "it makes identifiers free that user stores again",
}

// TestEveryWriteOfARecordIsAudited reads the source: a function that writes users, clients, scopes,
// resources, keys or grants stores an audit record.
func TestEveryWriteOfARecordIsAudited(t *testing.T) {
	writes := regexp.MustCompile("(INSERT INTO|UPDATE|DELETE FROM) (users|clients|scopes|resources|keys|grants|`\\+table)\\b")
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, source, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, declaration := range file.Decls {
			f, ok := declaration.(*ast.FuncDecl)
			if !ok {
				continue
			}
			text := string(source[set.Position(f.Pos()).Offset:set.Position(f.End()).Offset])
			if !writes.MatchString(text) {
				continue
			}
			seen++
			if _, ok := unaudited[f.Name.Name]; !ok && !strings.Contains(text, "auditChange(") && !strings.Contains(text, "insertAudit(") {
				t.Errorf("%s: %s writes a record and stores no audit record", name, f.Name.Name)
			}
		}
	}
	if seen < 15 {
		t.Errorf("only %d functions write records: the test does not find them", seen)
	}
}
