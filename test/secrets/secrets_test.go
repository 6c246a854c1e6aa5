// Package secrets checks that no exported type of the libraries reveals a secret when it is printed
// or logged.
package secrets

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/mail"
	"github.com/valetkey/valetkey/oauth/client"
	"github.com/valetkey/valetkey/oauth/client/sqlsession"
	"github.com/valetkey/valetkey/oauth/dpop"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/oauth/resourceserver"
	"github.com/valetkey/valetkey/storage/record"
)

const secret = "hunter2!hunter2!hunter2!hunter2!"

// exported lists the exported structs of each package. A new one must be added here; if it contains
// no secrets, with a description of what it contains.
var exported = map[string]map[string]entry{
	"oauth/client": {
		"AuthorizationChallenge":    {value: client.AuthorizationChallenge{}},
		"AuthorizationOptions":      {value: client.AuthorizationOptions{}, noJSON: true},
		"Backend":                   {value: client.Backend{}},
		"BackchannelAuthentication": {value: client.BackchannelAuthentication{}, noJSON: true},
		"BackchannelHandler":        {public: "functions, and a Client, which is checked separately"},
		"BackchannelRequest":        {value: client.BackchannelRequest{}, noJSON: true},
		"BackendConfig":             {public: "paths, URLs, and a RelyingParty, which is checked separately"},
		"Client":                    {value: client.Client{}},
		"Config":                    {value: client.Config{}},
		"DeviceAuthorization":       {value: client.DeviceAuthorization{}, noJSON: true},
		"Error":                     {public: "the error of the provider, to be logged"},
		"ExchangedToken":            {value: client.ExchangedToken{}, noJSON: true},
		"IDToken":                   {value: client.IDToken{}, noJSON: true},
		"IDTokenOptions":            {value: client.IDTokenOptions{}, noJSON: true},
		"LogoutOptions":             {value: client.LogoutOptions{}, noJSON: true},
		"LogoutToken":               {public: "claims of a logout token that has been used"},
		"LoopbackOptions":           {value: client.LoopbackOptions{}, noJSON: true},
		"MemorySessions":            {value: client.MemorySessions{}},
		"Registration":              {value: client.Registration{}, noJSON: true},
		"RelyingParty":              {value: client.RelyingParty{}},
		"RelyingPartyConfig":        {value: client.RelyingPartyConfig{}},
		"Session":                   {value: client.Session{}, noJSON: true},
		"SignInError":               {public: "a path and an error, to be logged"},
		"Source":                    {value: client.Source{}},
		"TokenExchangeRequest":      {value: client.TokenExchangeRequest{}, noJSON: true},
		"Tokens":                    {value: client.Tokens{}, noJSON: true},
		"Transaction":               {value: client.Transaction{}, noJSON: true},
		"UserInfo":                  {value: client.UserInfo{}, noJSON: true},
	},
	"identity": {
		"Accounts":         {value: identity.Accounts{}},
		"Authenticator":    {value: identity.Authenticator{}, noJSON: true},
		"FactorAttempt":    {value: identity.FactorAttempt{}, noJSON: true},
		"Policy":           {public: "rules that an operator may read"},
		"Recovery":         {public: "settings of an operator"},
		"MailRecovery":     {public: "times, and the address of the account, which is in its record"},
		"PolicyRule":       {public: "names of clients, scopes and groups"},
		"ProvedMethod":     {public: "a method, a time and a public ID"},
		"SignInProgress":   {value: identity.SignInProgress{}, noJSON: true},
		"Attempt":          {value: identity.Attempt{}, noJSON: true},
		"AccountData":      {public: "events, former names and times"},
		"FormerName":       {public: "a name and a time"},
		"PendingNotice":    {public: "the kind and the address of a message"},
		"SecurityEvent":    {public: "what happened, when and from where"},
		"Activity":         {public: "a browser and an address, for a message to their user"},
		"Config":           {value: identity.Config{}, noJSON: true},
		"EmailRequest":     {value: identity.EmailRequest{}, noJSON: true},
		"NewAccount":       {value: identity.NewAccount{}, noJSON: true},
		"Pages":            {public: "paths of pages"},
		"PasswordReset":    {value: identity.PasswordReset{}, noJSON: true},
		"Proof":            {value: identity.Proof{}, noJSON: true},
		"MailRequest":      {value: identity.MailRequest{}, noJSON: true},
		"Undoing":          {value: identity.Undoing{}, noJSON: true},
		"SignUpRequest":    {value: identity.SignUpRequest{}, noJSON: true},
		"Enrolment":        {value: identity.Enrolment{}, noJSON: true},
		"Passkey":          {public: "a public key and what its authenticator says about itself"},
		"RecoveryCodes":    {value: identity.RecoveryCodes{}, noJSON: true},
		"TOTP":             {value: identity.TOTP{}, noJSON: true},
		"Admission":        {public: "what a rule of the operator decides, without secrets"},
		"DirectoryUser":    {value: identity.DirectoryUser{}, noJSON: true},
		"ExternalKey":      {public: "an issuer and a subject"},
		"ExternalLink":     {public: "what another provider says about a user; the account page shows it"},
		"ExternalSessions": {public: "proofs, and sessions at other providers"},
		"ExternalSignIn":   {value: identity.ExternalSignIn{}, noJSON: true},
		"ExternalUser":     {value: identity.ExternalUser{}, noJSON: true},
		"ExternalSession":  {value: identity.ExternalSession{}, noJSON: true},
		"ExternalLogout":   {value: identity.ExternalLogout{}, noJSON: true},
		"LinkNeededError":  {public: "an error, to be logged"},
		"RefusedError":     {public: "an error, to be logged"},

		"DirectoryRefusedError": {public: "an error, to be logged"},

		"EndedSession":      {public: "an ID of a user and public names"},
		"InvalidUserError":  {public: "an error, to be logged"},
		"PasswordChange":    {value: identity.PasswordChange{}, noJSON: true},
		"Remembered":        {public: "what the user can download: times, former addresses and public keys"},
		"RememberedUntil":   {public: "a time"},
		"UndoableChange":    {public: "times, a former address and the name of a method"},
		"Session":           {value: identity.Session{}, noJSON: true},
		"SessionDetails":    {value: identity.SessionDetails{}, noJSON: true},
		"ThrottledError":    {public: "an error, to be logged"},
		"User":              {value: identity.User{}, noJSON: true},
		"Validity":          {public: "times and public names"},
		"WeakPasswordError": {public: "an error, to be logged"},
	},
	"mail": {
		"Config":         {value: mail.Config{}, noJSON: true},
		"Fact":           {public: "a line of a message, made for a template"},
		"Letter":         {value: mail.Letter{}, noJSON: true},
		"Message":        {value: mail.Message{}, noJSON: true},
		"Outbox":         {value: mail.Outbox{}},
		"PermanentError": {public: "an error, to be logged"},
		"SMTP":           {value: mail.SMTP{}, noJSON: true},
		"Templates":      {public: "templates without the values"},
		"View":           {value: mail.View{}, noJSON: true},
	},
	"storage/record": {
		"Check":            {public: "a check of a request, without secrets"},
		"Client":           {value: record.Client{}, noJSON: true},
		"ClientNeeds":      {public: "algorithms and response types"},
		"ClientSettings":   {public: "settings that an operator may read"},
		"Find":             {public: "the hash by which a ticket is found"},
		"Found":            {public: "a pointer to a ticket, which is not followed"},
		"Grant":            {public: "IDs, scopes, authorization details and times"},
		"GrantedDetail":    {public: "an authorization details object"},
		"GrantedDetails":   {public: "authorization details objects"},
		"Key":              {value: record.Key{}},
		"Registration":     {value: record.Registration{}, noJSON: true},
		"Resource":         {public: "an API"},
		"Scope":            {public: "a scope"},
		"Trace":            {public: "checks of a request, without secrets"},
		"WorkloadIdentity": {public: "the name of a workload on its platform"},
	},
	"oauth/client/sqlsession": {
		"Config": {value: sqlsession.Config{}},
		"Store":  {value: sqlsession.Store{}},
	},
	"oauth/resourceserver": {
		"Config":           {value: resourceserver.Config{}},
		"DPoP":             {value: resourceserver.DPoP{}},
		"Issuer":           {public: "an issuer that an API trusts"},
		"Requirement":      {public: "what a route requires"},
		"ResourceServer":   {value: resourceserver.ResourceServer{}},
		"Token":            {public: "claims of a token, without the token"},
		"TransactionToken": {value: resourceserver.TransactionToken{}, noJSON: true},
	},
	"oauth/dpop": {
		"Expected": {value: dpop.Expected{}, noJSON: true},
		"Key":      {value: dpop.Key{}},
		"Nonces":   {value: dpop.Nonces{}},
		"Proof":    {public: "claims of a proof that was accepted"},
	},
	"oauth/jose": {
		"Claims":          {public: "claims of a token"},
		"Decrypter":       {value: jose.Decrypter{}},
		"EncryptedHeader": {public: "algorithms and a kid"},
		"Expected":        {public: "algorithms and types"},
		"Header":          {public: "algorithms and a kid"},
		"JWK":             {public: "a public key; private keys are not supported"},
		"KeySet":          {public: "public keys"},
		"Message":         {public: "a payload to be encrypted"},
		"Signer":          {value: jose.Signer{}},
	},
}

type entry struct {
	value  any
	public string // what it contains, if there are no secrets
	// noJSON is set if its JSON contains its secrets, because it is stored or sent in that form.
	// Logs must not show them anyway.
	noJSON bool
}

func TestEveryExportedStructIsListed(t *testing.T) {
	for dir, known := range exported {
		found := map[string]bool{}
		files, err := filepath.Glob(filepath.Join("..", "..", filepath.FromSlash(dir), "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", dir, len(files), err)
		}
		for _, path := range files {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				spec, ok := n.(*ast.TypeSpec)
				if ok && spec.Name.IsExported() {
					if _, isStruct := spec.Type.(*ast.StructType); isStruct {
						found[spec.Name.Name] = true
					}
				}
				return true
			})
		}
		for name := range found {
			if _, ok := known[name]; !ok {
				t.Errorf("%s.%s is not listed: add it, and give it Format and LogValue if it contains a secret", dir, name)
			}
		}
		for name := range known {
			if !found[name] {
				t.Errorf("%s.%s does not exist", dir, name)
			}
		}
	}
}

func TestSecretsAreNeitherPrintedNorLogged(t *testing.T) {
	for dir, known := range exported {
		for name, e := range known {
			if e.public != "" {
				continue
			}
			t.Run(dir+"."+name, func(t *testing.T) {
				pointer := reflect.New(reflect.TypeOf(e.value))
				if fill(pointer.Elem(), 0) == 0 {
					// It contains only keys and lists of other packages.
					if printed := fmt.Sprintf("%+v", pointer.Interface()); !strings.HasPrefix(printed, "[") {
						t.Errorf("it is printed as %s: give it a Format method", printed)
					}
					return
				}
				check(t, "pointer", pointer.Interface(), e.noJSON)
				check(t, "inside a list", []any{pointer.Interface()}, true)
				// Structs with a lock are never copied.
				if !holdsLock(pointer.Elem().Type(), 0) {
					check(t, "value", pointer.Elem().Interface(), e.noJSON)
					holder := reflect.New(reflect.StructOf([]reflect.StructField{{Name: "Held", Type: pointer.Elem().Type()}})).Elem()
					holder.Field(0).Set(pointer.Elem())
					check(t, "inside a struct", holder.Interface(), true)
				}
			})
		}
	}
}

func check(t *testing.T, form string, v any, noJSON bool) {
	t.Helper()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		show(t, form+" by "+verb, fmt.Sprintf(verb, v))
	}
	show(t, form+" in an error", fmt.Errorf("failed: %v", v).Error())
	var text, document bytes.Buffer
	slog.New(slog.NewTextHandler(&text, nil)).Info("it", "v", v)
	show(t, form+" in a text log", text.String())
	if !noJSON || form == "pointer" || form == "value" {
		slog.New(slog.NewJSONHandler(&document, nil)).Info("it", "v", v)
		show(t, form+" in a JSON log", document.String())
	}
	if !noJSON {
		encoded, _ := json.Marshal(v) // an error reveals nothing
		show(t, form+" as JSON", string(encoded))
	}
}

func show(t *testing.T, how, printed string) {
	t.Helper()
	decimal := strings.Trim(fmt.Sprint([]byte(secret[:8])), "[]")
	for _, shape := range []string{"hunter2", hex.EncodeToString([]byte("hunter2")), decimal, strings.ReplaceAll(decimal, " ", ", "), "0x68, 0x75, 0x6e"} {
		if strings.Contains(strings.ToLower(printed), shape) {
			t.Errorf("%s: %.300s", how, printed)
			return
		}
	}
}

// shown are fields that are not secret: names, addresses, and settings.
var shown = []string{"ClientID", "ID", "UserID", "Algorithm", "Issuer", "kid", "alg", "use", "origin", "Issuers", "Algorithms", "ScopesSupported", "Name", "Documentation", "TrustDomain", "Resource", "identifier", "BaseURL", "Method", "certificate", "thumbprint", "Dialect", "dialect", "Transaction", "metadata", "documents", "config", "table", "Table"}

// fill sets every string of a value to the secret, including unexported ones, and returns how many
// there were.
func fill(v reflect.Value, depth int) (filled int) {
	if depth > 6 {
		return 0
	}
	if !v.CanSet() && v.CanAddr() {
		v = reflect.NewAt(v.Type(), unsafe.Pointer(v.UnsafeAddr())).Elem()
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(secret)
		return 1
	case reflect.Pointer:
		if foreign(v.Type().Elem()) {
			return 0
		}
		v.Set(reflect.New(v.Type().Elem()))
		return fill(v.Elem(), depth+1)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes([]byte(secret))
			if v.Type() == reflect.TypeFor[json.RawMessage]() {
				v.SetBytes([]byte(`{"sub":"` + secret + `"}`))
			}
			return 1
		}
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		return fill(v.Index(0), depth+1)
	case reflect.Map:
		if v.Type().Key().Kind() != reflect.String {
			return 0
		}
		element := reflect.New(v.Type().Elem()).Elem()
		filled = fill(element, depth+1)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.ValueOf(secret).Convert(v.Type().Key()), element)
		return filled
	case reflect.Struct:
		if foreign(v.Type()) {
			return 0
		}
		for i := range v.NumField() {
			if name := v.Type().Field(i).Name; !contains(shown, name) || depth > 0 && (name == "config" || name == "Transaction") {
				filled += fill(v.Field(i), depth+1)
			} else if name == "config" {
				filled += fill(v.Field(i), depth) // except its own names and addresses
			}
		}
	}
	return filled
}

func contains(list []string, name string) bool {
	for _, member := range list {
		if member == name {
			return true
		}
	}
	return false
}

// foreign reports whether a type belongs to another module or to the standard library. Such types
// are not filled.
func foreign(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && t.PkgPath() != "" && !strings.HasPrefix(t.PkgPath(), "github.com/valetkey/") || t == reflect.TypeFor[time.Time]()
}

func holdsLock(t reflect.Type, depth int) bool {
	if depth > 6 {
		return false
	}
	switch t.Kind() {
	case reflect.Struct:
		if t.PkgPath() == "sync" || t.PkgPath() == "sync/atomic" {
			return true
		}
		for i := range t.NumField() {
			if holdsLock(t.Field(i).Type, depth+1) {
				return true
			}
		}
	case reflect.Array:
		return holdsLock(t.Elem(), depth+1)
	}
	return false
}
