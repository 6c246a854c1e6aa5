package authserver

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/valetkey/valetkey/internal/expression"
)

func expressionExample() *expressionValues {
	return &expressionValues{
		Person: map[string]any{
			"email": "ada@example.com", "groups": []any{"notes-readers", "notes-editors", "payroll"}, "level": float64(3),
			"address": map[string]any{"country": "UK"},
		},
		ClientID: "web", ClientName: "Web", Scope: []string{"openid", "notes.read"}, Resource: []string{"https://notes.example.com"},
	}
}

func TestExpressions(t *testing.T) {
	for _, test := range []struct {
		text string
		want any
	}{
		{`person.groups`, []any{"notes-readers", "notes-editors", "payroll"}},
		{`filter(person.groups ?? [], # startsWith "notes-")`, []any{"notes-readers", "notes-editors"}},
		{`map(filter(person.groups, # startsWith "notes-"), trimPrefix(#, "notes-"))`, []any{"readers", "editors"}},
		{`filter(person.teams ?? [], # startsWith "notes-")`, []any{}},
		{`person.teams`, nil},
		{`person.address.country == "UK" ? "eu-west" : "us-east"`, "eu-west"},
		{`person.level >= 3 && "notes.read" in scope`, true},
		{`client_id == "web" ? lower(split(person.email, "@")[1]) : nil`, "example.com"},
		{`any(resource, # startsWith "https://notes.")`, true},
		{`{"tier": int(person.level)}`, map[string]any{"tier": 3}},
	} {
		program, err := compileExpression(test.text)
		if err != nil {
			t.Errorf("%s: %v", test.text, err)
			continue
		}
		got, err := evaluate(program, expressionExample())
		if err != nil {
			t.Errorf("%s: %v", test.text, err)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s:\n%s", test.text, diff)
		}
	}
}

// Invalid expressions are refused when they are compiled: those that use anything except their
// variables, or that can produce large values from small ones.
func TestInvalidExpressions(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{`person.`, "unexpected end"},
		{`persn.groups`, "unknown name persn"},
		{`scope + 1`, "invalid operation"},
		{`upper(client_id, 1)`, "too many arguments"},
		{`client_id.name`, "has no field name"},
		{`now()`, "unknown name now"},
		{`repeat("x", 1000000)`, "unknown name repeat"},
		{`replace("x", "", "y")`, "unknown name replace"},
		{`sum(1..1000000)`, "ranges"},
		{`let a = client_id + client_id; a + a`, "variables"},
		{`all(scope, all(scope, all(scope, true)))`, "at most 2 deep"},
		{`all(scope, any(map(scope, upper(#)), # == "X") && count(scope, len(filter(scope, true)) > 0) > 0)`, "at most 2 deep"},
		{strings.Repeat("1+", 200) + "1", "node"},
		{strings.Repeat(" ", expression.MaxBytes) + "1", "2048 bytes"},
		{`$env`, "$env"},
	} {
		if err := CheckExpression(test.text); err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.60s: %v, want %q", test.text, err, test.want)
		}
	}
}

func TestExpressionRuntimeErrors(t *testing.T) {
	values := expressionExample()
	values.Person["long"] = strings.Repeat("x", maxExpressionResults)
	for _, test := range []struct{ text, want string }{
		{`filter(person.teams, true)`, "zero Value"},
		{`person.email + 1`, "invalid operation"},
		{`person.groups[7]`, "out of range"},
		{`person.long`, "4096 bytes"},
		{`1 / 0.0`, "cannot be encoded as JSON"},
	} {
		program, err := compileExpression(test.text)
		if err != nil {
			t.Errorf("%s: %v", test.text, err)
			continue
		}
		if value, err := evaluate(program, values); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, %v, want %q", test.text, value, err, test.want)
		}
	}
	program, err := compileExpression(`map(person.many, map(person.many, #))`)
	if err != nil {
		t.Fatal(err)
	}
	values.Person["many"] = make([]any, 1000)
	if _, err := evaluate(program, values); err == nil || !strings.Contains(err.Error(), "memory budget") {
		t.Errorf("a million elements: %v", err)
	}
}

// An expression returns either a value or an error, whatever the claims are.
func FuzzExpression(f *testing.F) {
	f.Add(`filter(person.groups ?? [], # startsWith "notes-")`, "ada")
	f.Add(`person.name matches "^a(.*)"`, "\xff")
	f.Fuzz(func(t *testing.T, text, name string) {
		program, err := compileExpression(text)
		if err != nil {
			return
		}
		value, err := evaluate(program, &expressionValues{Person: map[string]any{"name": name, "groups": []any{name, nil, 1.5}}})
		if err != nil && value != nil {
			t.Error(errors.Join(err, errors.New("the expression also returned a value")))
		}
	})
}
