// Package archtest checks the import map of docs/ARCHITECTURE.md: which package may import
// which, and how large the program may become.
package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/valetkey/valetkey"

// rule lists what a package may import in addition to the standard library.
type rule struct {
	// knows are packages of this repository, without the module path; "." is the root.
	knows []string
	// uses are other modules, by prefix.
	uses []string
	// never are packages of the standard library that must not be imported.
	never []string
	// why says what a broken rule would cost.
	why string
}

var everything = []string{"*"}

var rules = map[string]rule{
	"oauth": {never: []string{"os", "time", "log/slog", "database/sql", "context"},
		why: "it defines the protocol types for all roles: standard library only, no I/O, no clock"},
	"oauth/jose": {uses: []string{"github.com/go-jose/go-jose/v4"},
		why: "servers, clients and APIs use jose, and it does not know them"},
	"oauth/dpop": {knows: []string{"oauth", "oauth/jose"},
		why: "clients, servers and APIs use it, and it does not know them"},
	"oauth/clientcertificate": {why: "servers and APIs find certificates of clients with it, and it knows neither"},
	"storage":                 {why: "storage is a contract; importing it must not bring a database"},
	"audit":                   {why: "everything that changes records uses it, and it knows none of them"},
	"authserver": {knows: []string{"internal/telemetry", "audit", "oauth", "oauth/clientcertificate", "oauth/dpop", "oauth/jose", "storage", "internal/cookiename", "internal/distinguishedname", "internal/editdistance", "internal/event", "internal/expression", "internal/lastuse", "internal/outgoing", "internal/plainjson", "internal/ratelimit", "internal/saml", "internal/statusindex", "storage/record", "internal/ticketkind", "internal/probe"}, uses: []string{"golang.org/x/sync", "github.com/google/jsonschema-go"},
		why: "the engine does not know how users sign in, and calls an interface for it"},
	"mail": {knows: []string{"storage", "internal/event", "ui/messages", "ui/theme"}, uses: []string{"github.com/wneessen/go-mail", "golang.org/x/net/idna"},
		why: "it sends messages, and does not know accounts and pages"},
	"identity": {knows: []string{"audit", "mail", "storage", "internal/breached", "internal/cookiename", "internal/event", "internal/lastuse", "internal/plainjson", "internal/ratelimit", "internal/ticketkind"}, uses: []string{"github.com/pquerna/otp", "golang.org/x/crypto", "golang.org/x/text"},
		why: "identity does not know OAuth; ui connects the two"},
	"identity/passkey": {knows: []string{"identity"}, uses: []string{"github.com/go-webauthn/webauthn/protocol", "golang.org/x/net/idna"},
		why: "it verifies passkeys and stores nothing; stores and other packages of sign-in do not link WebAuthn"},
	"manage/api": {knows: []string{"oauth", "storage/record"},
		why: "a program that calls the management API links neither the server nor a database"},
	"console": {knows: []string{"identity", "manage", "manage/api", "oauth", "ui"}, why: "the console changes things only through the management API, so that there is one check"},
	"manage": {knows: []string{"audit", "authserver", "configuration", "identity", "internal/doctor", "internal/ticketkind", "storage/declaration", "storage/sqldb", "internal/database", "internal/declare", "manage/api", "oauth", "storage", "storage/record"}, uses: []string{"github.com/danielgtaylor/huma/v2"},
		why: "it is one of the ways to change records, and knows no pages"},
	"ui": {knows: []string{"audit", "authserver", "deviceqr", "identity", "identity/directory", "identity/passkey", "identity/upstream", "mail", "oauth", "storage", "internal/event", "internal/ratelimit", "storage/record", "ui/messages", "ui/theme"}, uses: []string{"golang.org/x/text"},
		why: "ui connects users and the protocol, with any store"},
	"identity/admission": {knows: []string{"identity", "internal/expression", "oauth"},
		why: "the rule about users of other providers is the same for every kind of provider, and knows none of them"},
	"identity/upstream": {knows: []string{"audit", "identity", "identity/admission", "internal/expression", "internal/outgoing", "internal/ratelimit", "internal/ticketkind", "oauth", "oauth/client", "oauth/jose", "storage"},
		why: "it is a client of other providers, and knows neither our own protocol engine nor pages"},
	"identity/directory": {knows: []string{"identity", "identity/admission", "internal/ratelimit", "storage", "storage/record"}, uses: []string{"github.com/go-ldap/ldap/v3"},
		why: "it is a client of directories, and knows neither pages nor our own protocol engine"},
	"internal/expression": {uses: []string{"github.com/expr-lang/expr"}, why: "it evaluates expressions, and does not know what they are about"},
	"ui/theme":            {why: "a configuration, pages and mail share the theme, which knows none of them"},
	"ui/messages":         {uses: []string{"golang.org/x/text"}, why: "pages and mail share the texts, which know neither"},
	"storage/record": {knows: []string{"oauth", "oauth/jose", "storage"},
		why: "the engine and every store share the records, so they bring neither the engine nor a database"},
	"storage/declaration": {knows: []string{"identity", "oauth", "storage", "storage/record"},
		why: "a declaration is compared with records and users, without a database"},
	"storage/audited": {knows: []string{"audit", "identity", "oauth", "storage/declaration", "storage/record"},
		why: "every store makes the same audit records, so they bring no database"},
	"storage/sqldb": {knows: []string{"internal/telemetry", "audit", "oauth", "storage/audited", "identity", "oauth/jose", "storage", "storage/declaration", "storage/record"},
		uses: []string{"github.com/jackc/pgx/v5", "github.com/pressly/goose/v3", "modernc.org/sqlite", "modernc.org/libc", "zombiezen.com/go/sqlite", "golang.org/x/crypto"},
		why:  "a store implements contracts of other packages, and knows neither pages nor HTTP"},
	"storage/memory": {knows: []string{"audit", "storage/audited", "identity", "storage", "storage/declaration", "storage/record"},
		why: "it implements the same contracts as sqldb, and brings no database"},
	"storage/storagetest": {knows: []string{"audit", "identity", "oauth/jose", "oauth", "storage", "storage/declaration", "storage/record"},
		uses: []string{"github.com/google/go-cmp", "github.com/anishathalye/porcupine", "pgregory.net/rapid"},
		why:  "the tests of the contract run with every store, so they import none"},
	"oauth/client": {knows: []string{"oauth", "oauth/dpop", "oauth/jose"}, uses: []string{"golang.org/x/oauth2", "golang.org/x/sync"},
		why: "an application that signs users in must not link a server or a database"},
	"oauth/client/sqlsession":  {knows: []string{"oauth/client"}, why: "an application with sessions in a database brings the driver"},
	"oauth/client/sessiontest": {knows: []string{"oauth/client"}, why: "the tests of the contract run with every store, so they import none"},
	"oauth/resourceserver": {knows: []string{"oauth", "oauth/clientcertificate", "oauth/dpop", "oauth/jose"}, uses: []string{"golang.org/x/sync"},
		why: "an API that validates tokens must not link a server or a database"},
	"deviceqr": {uses: []string{"github.com/boombuler/barcode"}, why: "it draws a URI, and works with any client library"},
	"configuration": {knows: []string{"audit", "identity/directory", "identity/passkey", "identity/upstream", "ui/theme", "authserver", "identity", "mail", "oauth/clientcertificate", "oauth/jose", "oauth", "storage/declaration", "internal/clientaddress", "internal/editdistance", "manage/api", "storage/record"},
		uses: []string{"go.yaml.in/yaml/v4"},
		why:  "reading and checking a configuration must not open a database or link its drivers"},
	".": {knows: []string{"console", "internal/telemetry", "manage", "audit", "ui/theme", "identity/directory", "identity/upstream", "authserver", "configuration", "identity", "mail", "oauth", "ui", "storage", "storage/declaration", "internal/breachedapi", "internal/clientaddress", "internal/database", "internal/declare", "internal/doctor", "internal/event", "internal/outgoing", "internal/place", "internal/ratelimit", "internal/useradmin", "storage/record", "internal/cookiename", "internal/probe"},
		why: "the root connects the parts of the server; a program that embeds it must not get a command line, a client or a demo"},
	"authservertest": {knows: []string{".", "authserver", "oauth/client", "configuration", "oauth", "internal/person", "storage/record"},
		why: "tests of applications start the complete server"},
	"demo": {knows: []string{".", "authserver", "configuration", "deviceqr", "mail", "oauth/client", "oauth/dpop", "oauth/jose", "oauth", "oauth/resourceserver", "identity/upstream", "internal/person", "internal/softauthenticator", "storage/record"},
		uses: []string{"github.com/beevik/etree", "github.com/pquerna/otp", "github.com/russellhaering/goxmldsig"},
		why:  "the demo uses the public packages of every role"},
	"cmd/valetkey": {knows: []string{"identity/directory", "audit", ".", "authserver", "configuration", "demo", "identity", "oauth", "oauth/client", "oauth/dpop", "oauth/jose", "storage", "storage/declaration", "internal/database", "internal/declare", "internal/doctor", "internal/event", "internal/operatormcp", "internal/useradmin", "manage/api", "ui", "storage/record", "internal/sandbox", "internal/systemd"},
		uses: []string{"github.com/alecthomas/kong", "github.com/modelcontextprotocol/go-sdk/mcp", "golang.org/x/term"},
		why:  "the command line is thin: it parses flags, calls other packages, and prints"},

	"internal/breached":      {why: "it looks a password up in a list"},
	"internal/breachedapi":   {knows: []string{"internal/outgoing"}, why: "it asks a service, and does not know users"},
	"internal/chromium":      {uses: []string{"github.com/chromedp"}, why: "it starts a browser, and knows no pages"},
	"internal/cookiename":    {why: "it names cookies, and does not know their contents"},
	"internal/clientaddress": {why: "it finds a client's address, and must not depend on the server"},
	"internal/database":      {knows: []string{"configuration", "storage/sqldb"}, why: "it opens a database, and does not know its contents"},
	"internal/declare": {knows: []string{"audit", "configuration", "identity", "storage/declaration", "storage/sqldb"},
		why: "it applies declarations to a database; servers and commands do so in the same way"},
	"internal/operatormcp": {knows: []string{"manage/api", "oauth/resourceserver"}, uses: []string{"github.com/modelcontextprotocol/go-sdk/mcp"},
		why: "an agent gets what the management API gives its operator, and nothing past its check"},
	"internal/doctor": {knows: []string{"configuration", "internal/cookiename", "internal/database", "internal/probe", "mail", "oauth", "oauth/jose", "storage/sqldb"},
		why: "it looks at a server from outside and at what is around it, so it does not import the server; commands and the console show its report"},
	"internal/probe": {why: "a server and the programs that ask it share the questions, and nothing else"},
	"internal/useradmin": {knows: []string{"audit", "authserver", "configuration", "identity", "internal/database", "mail", "storage", "storage/sqldb", "storage/record"},
		why: "it changes users in a database, with or without a server on it"},
	"internal/distinguishedname": {uses: []string{"golang.org/x/text"}, why: "it compares names, and does not know clients"},
	"internal/editdistance":      {why: "it compares strings"},
	"internal/event":             {knows: []string{"internal/telemetry", "internal/ratelimit", "storage"}, why: "it logs events, and must not depend on their sources"},
	"internal/httpscript":        {uses: []string{"golang.org/x/tools/txtar", "github.com/rogpeppe/go-internal", "github.com/google/go-cmp"}, why: "scripts know only HTTP"},
	"internal/lastuse":           {knows: []string{"storage"}, why: "it collects uses, and does not know what is used"},
	"internal/mailtest":          {uses: []string{"github.com/emersion/go-smtp", "github.com/emersion/go-sasl"}, why: "it receives messages, and does not know who sends them"},
	"internal/outgoing":          {knows: []string{"internal/telemetry", "oauth", "oauth/jose", "internal/event", "internal/ratelimit"}, uses: []string{"golang.org/x/net/publicsuffix"}, why: "it sends requests, and must not depend on clients and grants"},
	"internal/person":            {knows: []string{"internal/softauthenticator"}, uses: []string{"golang.org/x/net/html"}, why: "a browser knows only HTTP and HTML"},
	"internal/place":             {uses: []string{"github.com/oschwald/maxminddb-golang/v2"}, why: "it finds the place of an address in a file, and does not know whose it is"},
	"internal/plainjson":         {why: "it reads text, and does not know what it means"},
	"internal/pgtest":            {knows: []string{"storage"}, uses: []string{"github.com/jackc/pgx/v5"}, why: "it starts PostgreSQL, and knows no tables"},
	"internal/telemetry":         {knows: []string{"storage"}, why: "it measures, and does not know what: its callers name it"},
	"internal/ticketkind":        {knows: []string{"storage"}, why: "it names tickets, and does not know their contents"},
	"internal/testcount":         {why: "it counts tests"},
	"internal/archtest":          {why: "it reads the sources, and imports none of them"},
	"internal/ratelimit":         {knows: []string{"storage"}, why: "it counts events by key, and does not know their meaning"},
	"internal/sandbox": {knows: []string{"configuration"}, uses: []string{"github.com/landlock-lsm/go-landlock"},
		why: "it restricts a process to what a configuration needs, and knows no server"},
	"internal/systemd":           {uses: []string{"golang.org/x/sys"}, why: "it talks to systemd, and does not know about what"},
	"internal/saml":              {uses: []string{"github.com/russellhaering/goxmldsig", "github.com/beevik/etree", "github.com/jonboulle/clockwork", "github.com/mattermost/xml-roundtrip-validator"}, why: "it verifies assertions, and must not depend on clients, tokens or the server"},
	"internal/statusindex":       {knows: []string{"storage", "internal/ticketkind"}, why: "it assigns indexes, and must not depend on tokens"},
	"internal/softauthenticator": {why: "a browser with an authenticator knows only WebAuthn"},
	"internal/specs":             {why: "it reads the sources, and imports none of them"},

	"examples": {knows: []string{".", "authserver", "configuration", "deviceqr", "oauth", "oauth/client", "oauth/resourceserver", "storage/record"}, uses: []string{"golang.org/x/oauth2"},
		why: "examples use only what any program can import"},
	"examples/api": {knows: []string{"oauth/resourceserver", "oauth"},
		why: "the example shows that an API needs only the middleware"},
	"examples/mcp": {knows: []string{"oauth/resourceserver"}, uses: []string{"github.com/modelcontextprotocol/go-sdk"},
		why: "the example shows that an MCP server needs only the middleware"},
	"examples/native":  {knows: []string{"oauth/client", "oauth"}, why: "the example shows that an application needs only the client library"},
	"examples/service": {knows: []string{"oauth/client", "oauth"}, why: "the example shows that a service needs only the client library"},
	"examples/webapp":  {knows: []string{"oauth/client", "oauth"}, why: "the example shows that an application needs only the client library"},
	"test":             {knows: everything, uses: everything, why: "tests of the whole system may import everything"},
}

// ruleOf returns the rule of a package. Packages in examples and test use the rule of that
// directory unless they have their own.
func ruleOf(path string) (rule, bool) {
	if r, ok := rules[path]; ok {
		return r, true
	}
	folder, _, below := strings.Cut(path, "/")
	if below && (folder == "examples" || folder == "test") {
		return rules[folder], true
	}
	return rule{}, false
}

// breaks reports whether an import breaks the rule.
func (r rule) breaks(imported string) bool {
	if imported == module || strings.HasPrefix(imported, module+"/") {
		name := "."
		if imported != module {
			name = strings.TrimPrefix(imported, module+"/")
		}
		return !slices.Contains(r.knows, name) && !slices.Equal(r.knows, everything)
	}
	if first, _, _ := strings.Cut(imported, "/"); !strings.Contains(first, ".") {
		return slices.Contains(r.never, imported)
	}
	if slices.Equal(r.uses, everything) {
		return false
	}
	return !slices.ContainsFunc(r.uses, func(prefix string) bool {
		return imported == prefix || strings.HasPrefix(imported, prefix+"/")
	})
}

type listed struct {
	ImportPath string
	Imports    []string
}

func TestImports(t *testing.T) {
	output, err := exec.Command("go", "list", "-json=ImportPath,Imports", module+"/...").Output()
	if err != nil {
		t.Fatalf("list packages: %v", err)
	}
	decoder := json.NewDecoder(bytes.NewReader(output))
	seen := map[string]bool{}
	for {
		var p listed
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		name := "."
		if p.ImportPath != module {
			name = strings.TrimPrefix(p.ImportPath, module+"/")
		}
		seen[name] = true
		r, ok := ruleOf(name)
		if !ok {
			t.Errorf("%s has no rule: add one in internal/archtest, with the reason", name)
			continue
		}
		for _, imported := range p.Imports {
			if r.breaks(imported) {
				t.Errorf("%s must not import %s: %s", name, imported, r.why)
			}
		}
	}
	// Both modules are checked.
	for _, name := range []string{".", "authserver", "oauth", "oauth/client", "oauth/resourceserver"} {
		if !seen[name] {
			t.Errorf("%s was not checked", name)
		}
	}
}

// TestStoresAreLight: a store links records, not the engine and what that brings.
func TestStoresAreLight(t *testing.T) {
	output, err := exec.Command("go", "list", "-deps", module+"/storage/...").Output()
	if err != nil {
		t.Fatalf("list dependencies: %v", err)
	}
	dependencies := strings.Fields(string(output))
	for _, heavy := range []string{
		module + "/authserver", "github.com/expr-lang/expr", "github.com/russellhaering/goxmldsig", "github.com/beevik/etree", "image/png",
	} {
		if slices.Contains(dependencies, heavy) {
			t.Errorf("a package in storage depends on %s", heavy)
		}
	}
	if !slices.Contains(dependencies, module+"/storage/record") {
		t.Errorf("no package in storage depends on storage/record")
	}
}

// Every package has a line in the tables of docs/ARCHITECTURE.md.
func TestTheArchitectureNamesEveryPackage(t *testing.T) {
	text, err := os.ReadFile("../../docs/ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	for name := range rules {
		if name == "." || strings.HasPrefix(name, "examples/") {
			continue
		}
		if !strings.Contains(string(text), "`"+name+"`") {
			t.Errorf("docs/ARCHITECTURE.md does not name %s", name)
		}
	}
}

// TestRulesRefuse: the rules refuse the imports that matter most.
func TestRulesForbidImports(t *testing.T) {
	for name, imports := range map[string][]string{
		"oauth/client":         {module, module + "/authserver", module + "/storage", "modernc.org/sqlite"},
		"oauth/resourceserver": {module, module + "/authserver", module + "/storage/sqldb", "github.com/jackc/pgx/v5"},
		"authserver":           {module + "/identity", module + "/ui", module + "/storage/sqldb", "github.com/jackc/pgx/v5/pgxpool"},
		"identity":             {module + "/oauth", module + "/authserver"},
		"mail":                 {module + "/identity", module + "/ui"},
		"oauth":                {"time", "os", module + "/oauth/jose", "golang.org/x/text"},
		".":                    {module + "/cmd/valetkey", module + "/oauth/client", "github.com/alecthomas/kong"},
		"configuration":        {module + "/storage/sqldb", "github.com/jackc/pgx/v5"},
	} {
		for _, imported := range imports {
			if !rules[name].breaks(imported) {
				t.Errorf("%s may import %s", name, imported)
			}
		}
	}
	if _, ok := ruleOf("helpers"); ok {
		t.Error("a package without a rule is accepted")
	}
}
