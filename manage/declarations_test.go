package manage_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey"
	"github.com/valetkey/valetkey/internal/person"
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

// TestAPlanSaysWhoUsesARedirectURI: two users were sent to one that the plan removes. The port of a
// loopback address is not registered.
func TestAPlanSaysWhoUsesARedirectURI(t *testing.T) {
	var config valetkey.Config
	const used, unused, kept = "http://127.0.0.1/used", "http://127.0.0.1/unused", "http://127.0.0.1/kept"
	s := start(t, func(c *valetkey.Config) {
		people(c)
		config = *c
	})
	plan := func(change api.Change, uris ...string) *api.DeclarationsResult {
		t.Helper()
		declarations, err := json.Marshal(map[string]any{"clients": []any{map[string]any{"client_id": "desktop", "token_endpoint_auth_method": "none",
			"application_type": "native", "redirect_uris": uris}}})
		if err != nil {
			t.Fatal(err)
		}
		result, err := s.connect(s.token(t, "administrator", nil)).ApplyDeclarations(t.Context(), &api.NewDeclarations{Declarations: declarations}, "", change)
		if err != nil {
			t.Fatal(err)
		}
		return result
	}
	plan(noChange, used, unused, kept)
	for _, visit := range []struct{ user, redirect string }{
		{"ada", "http://127.0.0.1:49152/used"}, {"ada", "http://127.0.0.1:49153/used"}, {"bob", "http://127.0.0.1:49154/used"}, {"bob", "http://127.0.0.1:49155/kept"},
	} {
		query := url.Values{"client_id": {"desktop"}, "response_type": {"code"}, "redirect_uri": {visit.redirect}, "scope": {"openid"},
			"code_challenge": {"E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"}, "code_challenge_method": {"S256"}}
		if at, err := person.New(visit.user, password).Visit(s.url+"/authorize?"+query.Encode(), visit.redirect); err != nil || at.Query().Get("code") == "" {
			t.Fatalf("%s is sent to %v, %v", visit.user, at, err)
		}
	}
	// Uses are stored later, or when the server stops.
	err := s.Close()
	if err == nil {
		s.Server, err = valetkey.New(config)
	}
	if err != nil {
		t.Fatal(err)
	}
	changes := plan(api.Change{DryRun: true}, kept).Changes
	if len(changes) != 1 || changes[0].Affects == nil {
		t.Fatalf("the plan is %+v", changes)
	}
	uses := changes[0].Affects.RedirectURIs
	if len(uses) != 1 || uses[0].RedirectURI != used || uses[0].Users != 2 || time.Since(uses[0].LastUse) > time.Minute {
		t.Errorf("the uses of removed redirect URIs are %+v", uses)
	}
	if uses := plan(api.Change{DryRun: true}, used, kept).Changes[0].Affects.RedirectURIs; uses != nil {
		t.Errorf("without a removed redirect URI that was used: %+v", uses)
	}
}

// TestConcurrentDeclarationsLeaveAnAdministrator: what is decided holds when it is written.
func TestConcurrentDeclarationsLeaveAnAdministrator(t *testing.T) {
	s := start(t, nil)
	administrator := s.connect(s.token(t, "administrator", nil))
	apply := func(declarations, etag string) error {
		_, err := administrator.ApplyDeclarations(t.Context(), &api.NewDeclarations{Declarations: json.RawMessage(declarations)}, etag, api.Change{})
		return err
	}
	for range 10 {
		if err := apply(`{"users": [{"username": "ada", "administrator": true, "disabled": false}, {"username": "bob", "administrator": true, "disabled": false}]}`, ""); err != nil {
			t.Fatal(err)
		}
		errs := make(chan error, 2)
		go func() { errs <- apply(`{"users": [{"username": "ada", "administrator": false}]}`, "") }()
		go func() { errs <- apply(`{"users": [{"username": "bob", "disabled": true}]}`, "") }()
		first, second := <-errs, <-errs
		if (first == nil) == (second == nil) {
			t.Fatalf("of two declarations that remove the last two administrators, both or none was applied: %v, %v", first, second)
		}
		wantStatus(t, "the other one", errors.Join(first, second), http.StatusConflict)
	}
}

// TestConcurrentPlansAreAppliedOnce: of several who apply the same plan, one does.
func TestConcurrentPlansAreAppliedOnce(t *testing.T) {
	s := start(t, nil)
	administrator := s.connect(s.token(t, "administrator", nil))
	for round := range 10 {
		body := &api.NewDeclarations{Declarations: json.RawMessage(fmt.Sprintf(`{"scopes": [{"name": "photos", "description": "%d"}]}`, round))}
		plan, err := administrator.ApplyDeclarations(t.Context(), body, "", api.Change{DryRun: true})
		if err != nil {
			t.Fatal(err)
		}
		const callers = 4
		errs := make(chan error, callers)
		for range callers {
			go func() {
				_, err := administrator.ApplyDeclarations(t.Context(), body, plan.ETag, api.Change{})
				errs <- err
			}()
		}
		applied := 0
		for range callers {
			if err := <-errs; err == nil {
				applied++
			} else {
				wantStatus(t, "a plan that another caller has applied", err, http.StatusPreconditionFailed)
			}
		}
		if applied != 1 {
			t.Fatalf("the plan was applied %d times", applied)
		}
	}
}

func TestIfMatchAny(t *testing.T) {
	s := start(t, nil)
	administrator := s.connect(s.token(t, "administrator", nil))
	if _, err := administrator.CreateScope(t.Context(), "photos", &api.ScopeMembers{Description: "one"}, noChange); err != nil {
		t.Fatal(err)
	}
	if _, err := administrator.UpdateScope(t.Context(), "photos", "*", &api.ScopeMembers{Description: "two"}, noChange); err != nil {
		t.Error(err)
	}
	_, err := administrator.UpdateScope(t.Context(), "none", "*", &api.ScopeMembers{Description: "two"}, noChange)
	wantStatus(t, "any version of a record that does not exist", err, http.StatusNotFound)
	scope, err := administrator.Scope(t.Context(), "photos")
	if err != nil {
		t.Fatal(err)
	}
	_, err = administrator.UpdateScope(t.Context(), "photos", "W/"+scope.ETag, &api.ScopeMembers{Description: "three"}, noChange)
	wantStatus(t, "a weak ETag", err, http.StatusPreconditionFailed)
	if _, err := administrator.UpdateScope(t.Context(), "photos", `"other", `+scope.ETag, &api.ScopeMembers{Description: "three"}, noChange); err != nil {
		t.Error(err)
	}
}
