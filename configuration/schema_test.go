package configuration

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"testing"

	"github.com/goccy/go-yaml"
)

// schema is the part of JSON Schema that config.schema.json uses. Other members are refused, so
// that everything in the file is checked.
type schema struct {
	Schema      string             `json:"$schema"`
	ID          string             `json:"$id"`
	Title       string             `json:"title"`
	Description string             `json:"description"`
	Examples    []any              `json:"examples"`
	Format      string             `json:"format"`
	Defs        map[string]*schema `json:"$defs"`

	Ref                  string             `json:"$ref"`
	Type                 any                `json:"type"`
	Properties           map[string]*schema `json:"properties"`
	AdditionalProperties *bool              `json:"additionalProperties"`
	Required             []string           `json:"required"`
	Items                *schema            `json:"items"`
	Enum                 []string           `json:"enum"`
	Pattern              string             `json:"pattern"`
	MinLength            int                `json:"minLength"`
	MaxLength            int                `json:"maxLength"`
	MinItems             int                `json:"minItems"`
	Minimum              *float64           `json:"minimum"`
	Maximum              *float64           `json:"maximum"`
}

func readSchema(t *testing.T) *schema {
	t.Helper()
	file, err := os.Open("../config.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	decoder := json.NewDecoder(file)
	decoder.DisallowUnknownFields()
	var s schema
	if err := decoder.Decode(&s); err != nil {
		t.Fatal(err)
	}
	return &s
}

func (s *schema) resolve(root *schema) *schema {
	if s.Ref == "" {
		return s
	}
	return root.Defs[filepath.Base(s.Ref)]
}

func (s *schema) types() []string {
	switch t := s.Type.(type) {
	case string:
		return []string{t}
	case []any:
		var names []string
		for _, name := range t {
			names = append(names, name.(string))
		}
		return names
	}
	return nil
}

// check returns why a value is not valid.
func (s *schema) check(root *schema, path string, value any) error {
	s = s.resolve(root)
	kind := map[reflect.Kind]string{
		reflect.String: "string", reflect.Bool: "boolean", reflect.Slice: "array", reflect.Map: "object",
		reflect.Float64: "number", reflect.Invalid: "null",
	}[reflect.ValueOf(value).Kind()]
	if number, ok := value.(float64); ok && number == float64(int64(number)) {
		kind = "integer"
	}
	types := s.types()
	if kind == "integer" && slices.Contains(types, "number") {
		kind = "number"
	}
	if len(types) > 0 && !slices.Contains(types, kind) {
		return fmt.Errorf("%s: %s instead of %v", path, kind, types)
	}
	switch value := value.(type) {
	case string:
		switch {
		case s.Enum != nil && !slices.Contains(s.Enum, value):
			return fmt.Errorf("%s: %q is not one of %v", path, value, s.Enum)
		case s.Pattern != "" && !regexp.MustCompile(s.Pattern).MatchString(value):
			return fmt.Errorf("%s: %q does not match %s", path, value, s.Pattern)
		case len(value) < s.MinLength || s.MaxLength > 0 && len(value) > s.MaxLength:
			return fmt.Errorf("%s: %q is too short or long", path, value)
		}
	case float64:
		if s.Minimum != nil && value < *s.Minimum {
			return fmt.Errorf("%s: %v is too small", path, value)
		}
		if s.Maximum != nil && value > *s.Maximum {
			return fmt.Errorf("%s: %v is too large", path, value)
		}
	case []any:
		if len(value) < s.MinItems {
			return fmt.Errorf("%s: too few items", path)
		}
		for i, item := range value {
			if s.Items != nil {
				if err := s.Items.check(root, fmt.Sprintf("%s[%d]", path, i), item); err != nil {
					return err
				}
			}
		}
	case map[string]any:
		for _, name := range s.Required {
			if _, ok := value[name]; !ok {
				return fmt.Errorf("%s: %s is missing", path, name)
			}
		}
		for name, member := range value {
			property, ok := s.Properties[name]
			if !ok && s.AdditionalProperties != nil && !*s.AdditionalProperties {
				return fmt.Errorf("%s: unknown %s", path, name)
			}
			if ok {
				if err := property.check(root, path+"."+name, member); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// The schema has exactly the keys of the parser, with the same types.
func TestSchemaHasTheParsersKeys(t *testing.T) {
	root := readSchema(t)
	compareSchema(t, root, root, reflect.TypeFor[Configuration](), "")
}

func compareSchema(t *testing.T, root, s *schema, typ reflect.Type, path string) {
	t.Helper()
	s = s.resolve(root)
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	if typ.Kind() == reflect.Interface && s.Type == nil { // any value
		return
	}
	want := map[reflect.Kind]string{
		reflect.String: "string", reflect.Bool: "boolean", reflect.Slice: "array", reflect.Map: "object",
		reflect.Struct: "object", reflect.Int64: "integer", reflect.Int: "integer", reflect.Float64: "number",
	}[typ.Kind()]
	switch {
	case typ == rawType:
		want = "object"
	case reflect.PointerTo(typ).Implements(textType):
		want = "string"
	}
	if !slices.Contains(s.types(), want) {
		t.Errorf("%s has the type %v in the schema and %v in the parser", path, s.types(), typ)
	}
	if path != "" && s.Description == "" && s.Enum == nil && want != "string" {
		t.Errorf("%s has no description", path)
	}
	switch {
	case typ.Kind() == reflect.Struct && want == "object":
		fields := fieldsOf(typ)
		if s.AdditionalProperties == nil || *s.AdditionalProperties {
			t.Errorf("%s allows unknown keys in the schema", path)
		}
		for _, name := range slices.Sorted(maps.Keys(fields)) {
			property, ok := s.Properties[name]
			if !ok {
				t.Errorf("%s.%s is not in the schema", path, name)
				continue
			}
			compareSchema(t, root, property, fields[name], path+"."+name)
		}
		for name := range s.Properties {
			if _, ok := fields[name]; !ok {
				t.Errorf("%s.%s is only in the schema", path, name)
			}
		}
	case typ.Kind() == reflect.Slice && want == "array":
		compareSchema(t, root, s.Items, typ.Elem(), path+"[]")
	}
}

// The schema accepts what the parser accepts, and both refuse values of the wrong form.
func TestSchemaAgreesWithTheParser(t *testing.T) {
	root := readSchema(t)
	for _, test := range []struct {
		file  string
		valid bool
	}{
		{completeFile, true},
		{"clients:\nusers:\n", true},
		{"trusted_proxies: []\n", true},
		{"clients: [{client_id: a, redirect_uris: [https://a.example/cb], contacts: [], post_logout_redirect_uris: []}]\n", true},
		{"clients: [{client_id: a, redirect_uris: [https://a.example/cb], resources: []}]\n", false},
		{"isuer: https://a.example\n", false},
		{"issuer:\n", false},
		{"database: mysql://a\n", false},
		{"lifetimes: {access_token: soon}\n", false},
		{"log: {level: loud}\n", false},
		{"telemetry: {metrics_listen: \":9464\", sample_ratio: 0.01}\n", true},
		{"telemetry: {sample_ratio: 1}\n", true},
		{"telemetry: {sample_ratio: 1.5}\n", false},
		{"telemetry: {sample_ratio: half}\n", false},
		{"telemetry: {metrics_interval: often}\n", false},
		{"tls: {certificate: a.pem}\n", false},
		{"clients: [{client_id: a, redirect_uris: []}]\n", true}, // the merged record is checked when it is applied
		{"clients: [{redirect_uris: [https://a.example/cb]}]\n", false},
		{"clients: [{client_id: a, redirect_uris: [https://a.example/cb], client_secret: \"\"}]\n", false},
		{"clients: [{client_id: a, redirect_uris: [https://a.example/cb], grant_types: [passwords]}]\n", false},
		{"clients: [{client_id: a, redirect_uris: [https://a.example/cb], id_token_signed_response_alg: ES999}]\n", false},
		{"clients: [{client_id: a, redirect_uris: [https://a.example/cb], default_max_age: -1}]\n", false},
		{"clients: [{client_id: a, redirect_uris: [https://a.example/cb], subject_type: secret}]\n", false},
		{"clients: [{client_id: a, client_name: null, client_secret: null, skip_consent: false}]\n", true},
		{"clients: [{client_id: null}]\n", false},
		{"users: [{username: ada, sub: \"1\", adopt: true, email: null, claims: {department: null}}]\n", true},
		{"users: [{name: Ada}]\n", false},
		{"users: [{username: ada, mail: a@example.com}]\n", false},
		{"users: [{username: ada, email_verified: \"yes\"}]\n", false},
		{"users: [{username: ada, claims: {department: x}}]\n", true},
		{"scopes: [{name: a, optional: 1}]\n", false},
		{"resources: [{identifier: https://api.example, access_token_format: xml}]\n", false},
	} {
		_, err := parse("v.yaml", []byte(test.file), true)
		if (err == nil) != test.valid {
			t.Errorf("the parser says %v of\n%s", err, test.file)
		}
		document, err := yaml.YAMLToJSON([]byte(test.file))
		if err != nil {
			t.Fatal(err)
		}
		var value any
		if err := json.Unmarshal(document, &value); err != nil {
			t.Fatal(err)
		}
		if err := root.check(root, "", value); (err == nil) != test.valid {
			t.Errorf("the schema says %v of\n%s", err, test.file)
		}
	}
}
