package manage_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/valetkey/valetkey/manage/api"
)

// TestDeclarationsReadNothingOfTheServer: a declaration that names a file or a variable of the server
// would show its content to whoever may apply declarations.
func TestDeclarationsReadNothingOfTheServer(t *testing.T) {
	s := start(t, nil)
	administrator := s.connect(s.token(t, "administrator", nil))
	t.Setenv("STOLEN", "0123456789abcdef0123456789abcdef")
	for name, test := range map[string]struct{ declarations, want string }{
		"a file":           {`{"clients": [{"client_id": "x", "client_secret_file": "/etc/hostname"}]}`, "files of the server are not read"},
		"in another case":  {`{"clients": [{"client_id": "x", "CLIENT_SECRET_FILE": "/etc/hostname"}]}`, "files of the server are not read"},
		"of a user":        {`{"users": [{"username": "x", "password_file": "/etc/hostname"}]}`, "files of the server are not read"},
		"another setting":  {`{"hooks": []}`, "is not one of clients"},
		"an unknown name":  {`{"clients": [{"client_id": "x", "nonsense": 1}]}`, "nonsense"},
		"nothing":          {`null`, "null is not an object"},
		"not an object":    {`[1]`, "cannot unmarshal"},
		"null as a record": {`{"clients": [null]}`, "client_id is required"},
	} {
		_, err := administrator.ApplyDeclarations(t.Context(), &api.NewDeclarations{Declarations: json.RawMessage(test.declarations)}, "", api.Change{})
		wantStatus(t, name, err, http.StatusUnprocessableEntity)
		if err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: the error is %q", name, err)
		}
	}
	_, err := administrator.ApplyDeclarations(t.Context(), &api.NewDeclarations{Source: "a\x00b", Declarations: json.RawMessage(`{}`)}, "", api.Change{})
	wantStatus(t, "a source with a control character", err, http.StatusUnprocessableEntity)
	variable := json.RawMessage(`{"clients": [{"client_id": "x", "client_secret": "${STOLEN}", "grant_types": ["client_credentials"], "scope": "users:read"}]}`)
	if _, err := administrator.ApplyDeclarations(t.Context(), &api.NewDeclarations{Declarations: variable}, "", api.Change{}); err != nil {
		t.Fatal(err)
	}
	if token, _ := s.requestToken(t, "x", map[string][]string{}); token != "" {
		t.Error("the server expanded the name of a variable of its own environment")
	}
}

// TestOnlyWhatWasComparedIsApplied: someone changes a record between plan and apply.
func TestOnlyWhatWasComparedIsApplied(t *testing.T) {
	s := start(t, nil)
	administrator := s.connect(s.token(t, "administrator", nil))
	apply := func(description, etag string, change api.Change) (*api.DeclarationsResult, error) {
		declarations := json.RawMessage(`{"scopes": [{"name": "photos", "description": "` + description + `"}]}`)
		return administrator.ApplyDeclarations(t.Context(), &api.NewDeclarations{Declarations: declarations}, etag, change)
	}
	if _, err := apply("one", "", api.Change{}); err != nil {
		t.Fatal(err)
	}
	plan, err := apply("two", "", api.Change{DryRun: true})
	if err != nil || len(plan.Changes) != 1 {
		t.Fatalf("the plan: %+v, %v", plan, err)
	}
	scope, err := administrator.Scope(t.Context(), "photos")
	if err != nil || scope.Description != "one" {
		t.Fatalf("after a dry run: %+v, %v", scope, err)
	}
	if _, err := administrator.UpdateScope(t.Context(), "photos", scope.ETag, &api.ScopeMembers{Description: "from the console"}, noChange); err != nil {
		t.Fatal(err)
	}
	_, err = apply("two", plan.ETag, api.Change{})
	wantStatus(t, "applying a plan that is no longer right", err, http.StatusPreconditionFailed)
	if plan, err = apply("two", "", api.Change{DryRun: true}); err != nil {
		t.Fatal(err)
	}
	if result, err := apply("two", plan.ETag, api.Change{}); err != nil || len(result.Changes) != 1 {
		t.Errorf("applying a plan: %+v, %v", result, err)
	}
}
