package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const root = "../.."

// Names are a subject and what happened to it; every member and every level is documented.
func TestTableHasOneStyle(t *testing.T) {
	style := regexp.MustCompile(`^[a-z]+(_[a-z]+)*\.[a-z]+(_[a-z]+)*$`)
	documented := map[string]bool{}
	for _, m := range Members {
		documented[m.Name] = true
	}
	seen := map[string]bool{}
	for _, kind := range Kinds {
		if !style.MatchString(kind.Name) || seen[kind.Name] {
			t.Errorf("%s: the name is used twice or has another style than the others", kind.Name)
		}
		seen[kind.Name] = true
		for _, member := range kind.Members {
			if !documented[member] {
				t.Errorf("%s: the member %q is not in Members", kind.Name, member)
			}
		}
	}
	for name := range documented {
		if !slices.ContainsFunc(Kinds, func(k *Kind) bool { return slices.Contains(k.Members, name) }) {
			t.Errorf("no event has the member %q", name)
		}
	}
}

// No package writes the member "event" itself, and each event is recorded somewhere, with
// members that the table lists.
func TestEveryEmitterUsesTheTable(t *testing.T) {
	kinds := kindsByVariable(t)
	recorded := map[string]bool{"RateLimitNotStored": true, "RecordsLeftOut": true} // in packages that event imports, and here
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && (strings.HasPrefix(entry.Name(), ".") && path != root || entry.Name() == "testdata") {
			return fs.SkipDir
		}
		own := strings.HasPrefix(path, filepath.Join(root, "internal/event")) || strings.HasPrefix(path, filepath.Join(root, "internal/ratelimit")) || strings.Contains(path, "storagetest")
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || own {
			return nil
		}
		files := token.NewFileSet()
		file, err := parser.ParseFile(files, path, nil, 0)
		if err != nil {
			return fmt.Errorf("parse: %w", err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && x.Name == "event" && kinds[n.Sel.Name] != nil {
					recorded[n.Sel.Name] = true
				}
			case *ast.CallExpr:
				if setsEvent(n) && !strings.Contains(path, "examples") {
					t.Errorf("%v: only this table may set the member event", files.Position(n.Pos()))
				}
				checkMembers(t, files, n, kinds)
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for variable := range kinds {
		if !recorded[variable] {
			t.Errorf("nothing records %s", variable)
		}
	}
}

// kindsByVariable reads the names of the variables of table.go.
func kindsByVariable(t *testing.T) map[string]*Kind {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "table.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var variables []string
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && len(spec.Values) == 1 {
			if call, ok := spec.Values[0].(*ast.CallExpr); ok {
				if f, ok := call.Fun.(*ast.Ident); ok && (f.Name == "add" || f.Name == "sampled") {
					variables = append(variables, spec.Names[0].Name)
				}
			}
		}
		return true
	})
	if len(variables) != len(Kinds) {
		t.Fatalf("%d variables, %d kinds", len(variables), len(Kinds))
	}
	kinds := map[string]*Kind{}
	for i, variable := range variables {
		kinds[variable] = Kinds[i]
	}
	return kinds
}

// setsEvent reports whether a call sets the member event of a log record.
func setsEvent(call *ast.CallExpr) bool {
	function, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	x, _ := function.X.(*ast.Ident)
	logs := x != nil && x.Name == "slog"
	for _, method := range []string{"With", "Debug", "Info", "Warn", "Error", "Log", "LogAttrs", "DebugContext", "InfoContext", "WarnContext", "ErrorContext", "Add", "AddAttrs"} {
		logs = logs || function.Sel.Name == method
	}
	return logs && slices.ContainsFunc(call.Args, func(argument ast.Expr) bool {
		literal, ok := argument.(*ast.BasicLit)
		return ok && literal.Value == `"event"`
	})
}

// checkMembers compares the members of a call of Record, as far as they are written there,
// with the table.
func checkMembers(t *testing.T, files *token.FileSet, call *ast.CallExpr, kinds map[string]*Kind) {
	f, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || f.Sel.Name != "Record" || len(call.Args) < 2 {
		return
	}
	named, ok := call.Args[1].(*ast.SelectorExpr)
	if !ok || kinds[named.Sel.Name] == nil {
		return
	}
	kind := kinds[named.Sel.Name]
	for _, arg := range call.Args[2:] {
		member, ok := arg.(*ast.CallExpr)
		if !ok {
			continue
		}
		keys := []string{}
		switch f := member.Fun.(type) {
		case *ast.SelectorExpr:
			switch {
			case f.Sel.Name == "Address":
				keys = append(keys, keyAddress)
			case f.Sel.Name == "namedSubject" || f.Sel.Name == "namedByID":
				keys = append(keys, "sub", "username")
			case f.Sel.Name == "namedClientID":
				keys = append(keys, "client_id", "client_name")
			case len(member.Args) > 0:
				if literal, ok := member.Args[0].(*ast.BasicLit); ok {
					key, _ := strconv.Unquote(literal.Value)
					keys = append(keys, key)
				}
			}
		case *ast.Ident:
			switch f.Name {
			case "namedClient", "clientMembers":
				keys = append(keys, "client_id", "client_name")
			case "named":
				keys = append(keys, "sub", "username")
			}
		}
		for _, key := range keys {
			if !slices.Contains(kind.Members, key) {
				t.Errorf("%v: %s has no member %q", files.Position(call.Pos()), kind.Name, key)
			}
		}
	}
}

// docs/guides/events.md has the content of the table. VALETKEY_UPDATE=1 writes it.
func TestGuideHasTheTable(t *testing.T) {
	const begin, end = "<!-- begin: written by internal/event -->\n", "<!-- end -->\n"
	path := filepath.Join(root, "docs/guides/events.md")
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
		t.Fatalf("%s differs from the table; VALETKEY_UPDATE=1 go test ./internal/event writes it", path)
	}
	if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

func guide() string {
	var b strings.Builder
	b.WriteString("| event | level | members | meaning |\n| --- | --- | --- | --- |\n")
	for _, kind := range Kinds {
		meaning, sampled := kind.Meaning, ""
		if kind.Sampled {
			sampled = " *"
		}
		members := ""
		for i, member := range kind.Members {
			if i > 0 {
				members += ", "
			}
			members += "`" + member + "`"
		}
		fmt.Fprintf(&b, "| `%s`%s | %s | %s | %s |\n", kind.Name, sampled, kind.Level, members, meaning)
	}
	b.WriteString("\n| member | meaning |\n| --- | --- |\n")
	for _, m := range Members {
		fmt.Fprintf(&b, "| `%s` | %s |\n", m.Name, m.Meaning)
	}
	b.WriteString("\n| reason | meaning |\n| --- | --- |\n")
	for _, r := range Reasons {
		fmt.Fprintf(&b, "| `%s` | %s |\n", r.Name, r.Meaning)
	}
	return b.String()
}

// External input neither starts a record nor reaches a terminal as a control sequence, in text
// and in JSON.
func TestLogInjection(t *testing.T) {
	evil := "x\nlevel=ERROR msg=\"all is lost\" event=setup.completed\r\x1b[2J\u009b31m\u202etxet\u2028\xff" + strings.Repeat("y", 5000)
	for _, format := range []string{"text", "json"} {
		t.Run(format, func(t *testing.T) {
			var out bytes.Buffer
			var handler slog.Handler = slog.NewTextHandler(&out, nil)
			if format == "json" {
				handler = slog.NewJSONHandler(&out, nil)
			}
			New(slog.New(handler)).Record(t.Context(), RequestRefused,
				slog.String("client_id", evil), slog.Any("cause", errors.New(evil)), Together(slog.String("client_name", evil)), slog.Any("audience", []string{evil}))
			if n := bytes.Count(out.Bytes(), []byte("\n")); n != 1 {
				t.Errorf("%d lines, want 1: %q", n, out.String())
			}
			if strings.ContainsAny(out.String(), "\x1b\u009b\u202e\u2028\r") {
				t.Errorf("control characters are not escaped: %q", out.String())
			}
			if out.Len() > 4*maxText+2000 {
				t.Errorf("the record has %d bytes", out.Len())
			}
			if format == "json" {
				var record map[string]any
				if err := json.Unmarshal(out.Bytes(), &record); err != nil {
					t.Fatalf("not JSON: %v", err)
				}
				if record["event"] != "request.refused" {
					t.Errorf("event = %v", record["event"])
				}
			}
		})
	}
}

// One address can neither fill the log nor suppress events of others, and the log says how many
// records are missing.
func TestFloodIsBoundedAndCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out lockedLog
		l := New(slog.New(slog.NewTextHandler(&out, nil)))
		const flood = 100_000
		for i := range flood {
			// All addresses of one /64 count as one.
			l.Record(t.Context(), RequestRefused, slog.String("reference", "FLOO-D000"), Address(netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", i%5000))))
		}
		written := strings.Count(out.String(), "FLOO-D000")
		if written == 0 || written > 60 {
			t.Errorf("%d of %d records of one network were written", written, flood)
		}
		l.Record(t.Context(), RequestRefused, slog.String("reference", "OTHE-R000"), Address(netip.MustParseAddr("192.0.2.7")))
		if !strings.Contains(out.String(), "OTHE-R000") {
			t.Error("a flood from one network suppresses events of another")
		}
		time.Sleep(leftOutEvery + time.Second)
		synctest.Wait()
		want := fmt.Sprintf("event=log.left_out left_out=request.refused count=%d addresses=1 address=2001:db8::/64 address_count=%d", flood-written, flood-written)
		if !strings.Contains(out.String(), want) {
			t.Errorf("the log does not contain %q:\n%s", want, out.String()[max(0, len(out.String())-500):])
		}
	})
}

// A flood from many addresses is limited as well, and Close logs what is missing.
func TestFloodFromManyAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out lockedLog
		l := New(slog.New(slog.NewTextHandler(&out, nil)))
		for i := range 50_000 {
			l.Record(t.Context(), SignInFailed, Address(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})))
		}
		if written := strings.Count(out.String(), "event=sign_in.failed"); written > 2500 {
			t.Errorf("%d records were written", written)
		}
		l.Close()
		if !strings.Contains(out.String(), "event=log.left_out left_out=sign_in.failed count=") {
			t.Error("Close does not log what was omitted")
		}
	})
}

// lockedLog can be read while a timer writes to it.
type lockedLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
