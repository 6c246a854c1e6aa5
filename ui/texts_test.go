package ui

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/valetkey/valetkey/ui/messages"
)

// usesOfTexts returns the calls of t in templates and of text and messages.New in Go code, by the place:
// the key, and the names of the arguments.
func usesOfTexts(t *testing.T) map[string][][]string {
	t.Helper()
	uses := map[string][][]string{}
	call := regexp.MustCompile(`\bt "([\w.-]+)"((?: "[\w-]+" (?:\([^()]*(?:\([^()]*\))?[^()]*\)|[^\s")}]+|"[^"]*"))*)`)
	name := regexp.MustCompile(` "([\w-]+)" (?:\(|[^\s"(])`)
	walk := func(file string, content string) {
		for _, match := range call.FindAllStringSubmatch(content, -1) {
			use := []string{match[1]}
			for _, argument := range name.FindAllStringSubmatch(match[2], -1) {
				use = append(use, argument[1])
			}
			uses[file] = append(uses[file], use)
		}
	}
	err := fs.WalkDir(files, "templates", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := fs.ReadFile(files, path)
		walk(path, string(content))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{"*.go", "../mail/*.go"} {
		names, _ := filepath.Glob(pattern)
		for _, path := range names {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			parsed, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(parsed, func(n ast.Node) bool {
				if c, ok := n.(*ast.CallExpr); ok && isText(c.Fun) {
					if _, constant := c.Args[0].(*ast.BasicLit); !constant {
						return true
					}
					var use []string
					for i, argument := range c.Args {
						if literal, ok := argument.(*ast.BasicLit); ok && (i == 0 || i%2 == 1) {
							use = append(use, strings.Trim(literal.Value, `"`))
						}
					}
					uses[path] = append(uses[path], use)
				}
				return true
			})
		}
	}
	return uses
}

// isText reports whether a call is one of text or messages.New.
func isText(f ast.Expr) bool {
	switch f := f.(type) {
	case *ast.Ident:
		return f.Name == "text"
	case *ast.SelectorExpr:
		x, ok := f.X.(*ast.Ident)
		return ok && x.Name == "messages" && f.Sel.Name == "New"
	}
	return false
}

// A page whose text does not exist, or lacks an argument, cannot be shown.
func TestTextsExist(t *testing.T) {
	n := 0
	for file, uses := range usesOfTexts(t) {
		for _, use := range uses {
			n++
			if !messages.Has(use[0]) {
				t.Errorf("%s: there is no text %s", file, use[0])
				continue
			}
			for _, name := range messages.English.Arguments(use[0]) {
				if name != "strong" && !slices.Contains(use[1:], name) {
					t.Errorf("%s: the text %s needs the argument %s, and gets %q", file, use[0], name, use[1:])
				}
			}
		}
	}
	if n < 200 {
		t.Errorf("only %d uses of texts were found", n)
	}
}

// No template has text of its own, which would be in English on every page.
func TestTemplatesHaveNoText(t *testing.T) {
	action := regexp.MustCompile(`(?s)\{\{.*?\}\}`)
	attribute := regexp.MustCompile(`\b(?:title|alt|placeholder|aria-label)="([^"]*)"`)
	element := regexp.MustCompile(`(?s)<[^>]*>`)
	letters := regexp.MustCompile(`\pL{2,}`)
	err := fs.WalkDir(files, "templates", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := fs.ReadFile(files, path)
		if err != nil {
			return err
		}
		rest := action.ReplaceAllString(string(content), "")
		for _, match := range attribute.FindAllStringSubmatch(rest, -1) {
			if letters.MatchString(match[1]) && match[1] != "XXXX-XXXX" {
				t.Errorf("%s: %s", path, match[0])
			}
		}
		for _, word := range letters.FindAllString(element.ReplaceAllString(rest, " "), -1) {
			t.Errorf("%s has the word %q: use t and a text in ui/messages/en.json", path, word)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// No Go code has a text for users of its own.
func TestCodeHasNoText(t *testing.T) {
	literal := regexp.MustCompile(`\b(?:Alert|Title|Text|Button|Notice|Detail|Words)\b[^=:\n]*(?:=|:=|:) *(?:messages\.Plain\()?"[A-Z][^"]* [^"]*"|messages\.Plain\("`)
	names, _ := filepath.Glob("*.go")
	for _, path := range names {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range literal.FindAllString(string(content), -1) {
			t.Errorf("%s: %s", path, match)
		}
	}
}

// A text that nothing uses would be translated for nothing.
func TestTextsAreUsed(t *testing.T) {
	var all strings.Builder
	for _, pattern := range []string{"*.go", "templates/*.html", "templates/*/*.html", "../mail/*.go", "messages/*.go"} {
		names, _ := filepath.Glob(pattern)
		for _, path := range names {
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			all.Write(content)
		}
	}
	// The rest of these keys is not constant.
	computed := regexp.MustCompile(`^(?:error\.[\w-]+\.(?:title|happened|next)|notice\.[\w-]+|approve\.\w+\.short|method\.upstream|password\.weak\.\w+|mail\.[\w-]+(?:\.\w+)?|method\.upstream)$`)
	for _, key := range messages.English.Keys() {
		if !computed.MatchString(key) && !strings.Contains(all.String(), `"`+key+`"`) {
			t.Errorf("nothing uses the text %s", key)
		}
	}
}
