package ticketkind

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/valetkey/valetkey/storage"
)

const root = "../.."

// parse returns a file of this repository.
func parse(t *testing.T, path string) *ast.File {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// isKindType reports whether an expression is the type storage.Kind.
func isKindType(e ast.Expr) bool {
	s, ok := e.(*ast.SelectorExpr)
	if !ok || s.Sel.Name != "Kind" {
		return false
	}
	x, ok := s.X.(*ast.Ident)
	return ok && x.Name == "storage"
}

func isString(e ast.Expr) bool {
	literal, ok := e.(*ast.BasicLit)
	return ok && literal.Kind == token.STRING
}

// members parses the lines "name: text" of a comment.
func members(comment string) map[string]string {
	m := map[string]string{}
	for line := range strings.Lines(comment) {
		if name, text, ok := strings.Cut(strings.TrimSpace(line), ": "); ok {
			m[name] = text
		}
	}
	return m
}

func TestKindsAreUniqueAndDescribed(t *testing.T) {
	seen := map[string]string{string(storage.KindStatus): "storage.KindStatus"}
	ast.Inspect(parse(t, "ticketkind.go"), func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		name := spec.Names[0].Name
		if len(spec.Names) != 1 || !isKindType(spec.Type) || !isString(spec.Values[0]) {
			t.Fatalf("%s: the table needs one constant of type storage.Kind in each entry", name)
		}
		value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := seen[value]; ok {
			t.Errorf("%s and %s are both %q", other, name, value)
		}
		seen[value] = name
		described := members(spec.Doc.Text())
		for _, member := range []string{"File", "Put", "Spent"} {
			if described[member] == "" {
				t.Errorf("%s: its comment has no %s", name, member)
			}
		}
		source, err := os.ReadFile(filepath.Join(root, described["File"]))
		if err != nil || !strings.Contains(string(source), "ticketkind."+name) {
			t.Errorf("%s: %s does not use it: %v", name, described["File"], err)
		}
		return true
	})
	if len(seen) < 20 {
		t.Errorf("only %d kinds were found", len(seen))
	}
}

// A kind that is written as a string elsewhere may be the kind of another part.
func TestNoKindsOutsideTheTable(t *testing.T) {
	files := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); name == ".git" || name == "node_modules" || path == filepath.Join(root, "internal", "ticketkind") {
				return filepath.SkipDir
			}
			return nil
		}
		// The tests of the storage contract have their own kinds.
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "storagetest") {
			return nil
		}
		files++
		for _, at := range writtenKinds(parse(t, path)) {
			t.Errorf("%s: the kind %s is not in the table of package ticketkind", path, at)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 100 {
		t.Errorf("only %d files were found", files)
	}
}

// writtenKinds returns the kinds that a file contains as string literals.
func writtenKinds(file *ast.File) (kinds []string) {
	add := func(values ...ast.Expr) {
		for _, v := range values {
			if isString(v) {
				kinds = append(kinds, v.(*ast.BasicLit).Value)
			}
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ValueSpec:
			if isKindType(n.Type) {
				add(n.Values...)
			}
		case *ast.CallExpr:
			if isKindType(n.Fun) {
				add(n.Args...)
			}
		case *ast.KeyValueExpr:
			if key, ok := n.Key.(*ast.Ident); ok && key.Name == "Kind" && file.Name.Name != "storage" {
				add(n.Value)
			}
		}
		return true
	})
	return kinds
}

func TestWrittenKindsAreFound(t *testing.T) {
	const source = `package p
import "github.com/valetkey/valetkey/storage"
const a storage.Kind = "a"
var b, c = storage.Kind("b"), storage.Key{Kind: "c"}
`
	file, err := parser.ParseFile(token.NewFileSet(), "p.go", source, 0)
	if err != nil {
		t.Fatal(err)
	}
	if found := strings.Join(writtenKinds(file), " "); found != `"a" "b" "c"` {
		t.Errorf("found %s", found)
	}
}
