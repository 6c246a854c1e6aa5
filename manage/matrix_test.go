package manage_test

import (
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/valetkey/valetkey"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/manage"
	"github.com/valetkey/valetkey/manage/api"
)

// An operation as the OpenAPI document describes it.
type described struct {
	method, path, id string
	scopes           []string
}

// operations reads the OpenAPI document of a server.
func (s *server) operations(t *testing.T) []described {
	t.Helper()
	response, err := http.Get(s.url + "/manage/v1/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var document struct {
		OpenAPI string `json:"openapi"`
		Paths   map[string]map[string]struct {
			OperationID string                `json:"operationId"`
			Security    []map[string][]string `json:"security"`
		} `json:"paths"`
	}
	if err := json.NewDecoder(response.Body).Decode(&document); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(document.OpenAPI, "3.1.") {
		t.Errorf("the document is OpenAPI %s", document.OpenAPI)
	}
	var found []described
	for path, methods := range document.Paths {
		for method, o := range methods {
			if len(o.Security) != 1 || o.Security[0]["oauth"] == nil {
				t.Errorf("%s does not say what it requires", o.OperationID)
				continue
			}
			found = append(found, described{strings.ToUpper(method), path, o.OperationID, o.Security[0]["oauth"]})
		}
	}
	slices.SortFunc(found, func(a, b described) int { return strings.Compare(a.id, b.id) })
	return found
}

var pathParameter = regexp.MustCompile(`\{[a-z_]+\}`)

// supportMay are the operations of the role support. An auditor may read everything, and an operator
// may do everything except set-user-role.
var supportMay = strings.Fields(`whoami
	list-clients get-client list-client-grants list-client-tokens end-client
	list-users get-user list-user-grants list-user-sessions end-user-session end-user list-user-tokens get-token end-token
	list-explanations get-explanation list-recordings preview`)

func roleMay(role string, o described) bool {
	switch role {
	case "administrator":
		return true
	case "operator":
		return o.id != "set-user-role" && o.id != "apply-declarations"
	case "support":
		return slices.Contains(supportMay, o.id)
	case "auditor":
		// The operations that always refuse tell readers where to make the change.
		return o.method == http.MethodGet || slices.Contains([]string{"update-rules", "update-hooks", "update-trusted-issuers"}, o.id)
	}
	return false
}

// TestEachOperationByEachRole sends each operation with records that do not exist or without a body, so
// that nothing changes: what is compared is whether the caller may use it.
func TestEachOperationByEachRole(t *testing.T) {
	s := start(t, nil)
	tokens := map[string]string{"no token": "", "nonsense": "vk_at_nonsense", "wrong audience": s.token(t, "not-allowed", map[string][]string{})}
	for _, role := range []string{"administrator", "operator", "support", "auditor", "nobody"} {
		tokens[role] = s.token(t, role, nil)
	}
	revoked := s.token(t, "administrator", nil)
	s.revoke(t, "administrator", revoked)
	tokens["revoked"] = revoked
	operations := s.operations(t)
	if len(operations) < 50 {
		t.Errorf("there are %d operations", len(operations))
	}
	for _, o := range operations {
		for who, token := range tokens {
			path := strings.Replace(o.path, "{outbox}", "users", 1)
			r, err := http.NewRequestWithContext(t.Context(), o.method, s.url+"/manage/v1"+pathParameter.ReplaceAllString(path, "none"), nil)
			if err != nil {
				t.Fatal(err)
			}
			if token != "" {
				r.Header.Set("Authorization", "Bearer "+token)
			}
			response, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(response.Body)
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close()
			status := response.StatusCode
			switch {
			case who == "no token" || who == "nonsense" || who == "wrong audience" || who == "revoked":
				if status != http.StatusUnauthorized || response.Header.Get("WWW-Authenticate") == "" {
					t.Errorf("%s with %s: %d", o.id, who, status)
				}
			case roleMay(who, o):
				if status == http.StatusUnauthorized || status == http.StatusForbidden || status >= 500 {
					t.Errorf("%s by %s: %d %s", o.id, who, status, body)
				}
			case status != http.StatusForbidden:
				t.Errorf("%s by %s: %d, want 403", o.id, who, status)
			}
			if status >= 400 && response.Header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("%s by %s: the error is %s", o.id, who, response.Header.Get("Content-Type"))
			}
		}
	}
}

// revoke revokes a token at the revocation endpoint.
func (s *server) revoke(t *testing.T, client, token string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/revoke", strings.NewReader("token="+token))
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth(client, secret)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Fatalf("revoke: %s", response.Status)
	}
}

// TestADisabledOrDemotedCallerIsRefusedAtOnce: nothing is remembered between two requests.
func TestADisabledOrDemotedCallerIsRefusedAtOnce(t *testing.T) {
	s := start(t, func(c *valetkey.Config) {
		c.Users = []configuration.User{{Username: "ada", Subject: "ada-sub", Administrator: true}}
	})
	ada := s.Management().Connect(manage.Caller{UserID: "ada-sub"})
	bob := s.createUser(t, ada, "bob", "operator")
	asBob := s.Management().Connect(manage.Caller{UserID: bob.ID})
	if who, err := asBob.Whoami(t.Context()); err != nil || who.Role != "operator" {
		t.Fatalf("bob: %+v, %v", who, err)
	}
	_, err := asBob.SetUserRole(t.Context(), "ada-sub", "*", "", noChange)
	wantStatus(t, "an operator demotes an administrator", err, http.StatusForbidden)
	_, err = asBob.CreateRecovery(t.Context(), "ada-sub", noLink, noChange)
	wantStatus(t, "an operator takes over an administrator", err, http.StatusForbidden)
	wantStatus(t, "an operator deletes an administrator", asBob.DeleteUser(t.Context(), "ada-sub", "*", noChange), http.StatusForbidden)

	bob, err = ada.SetUserRole(t.Context(), bob.ID, bob.ETag, "support", noChange)
	if err != nil {
		t.Fatal(err)
	}
	_, err = asBob.Keys(t.Context())
	wantStatus(t, "a demoted operator", err, http.StatusForbidden)
	members := userMembers(bob)
	members.Disabled = true
	if _, err = ada.UpdateUser(t.Context(), bob.ID, bob.ETag, members, noChange); err != nil {
		t.Fatal(err)
	}
	_, err = asBob.Whoami(t.Context())
	wantStatus(t, "a disabled user", err, http.StatusUnauthorized)
}

func TestAnOperationWithoutAPermissionCannotBeRegistered(t *testing.T) {
	s := start(t, nil)
	panics := func(method string, permission api.Permission) (refused bool) {
		defer func() { refused = recover() != nil }()
		s.Management().Register(method, permission)
		return false
	}
	for _, c := range []struct {
		name, method string
		permission   api.Permission
		want         bool
	}{
		{"no permission", http.MethodGet, "", true},
		{"an unknown permission", http.MethodGet, "clients:own", true},
		{"a change with a permission to read", http.MethodPost, api.ClientsRead, true},
		{"a change with a permission to write", http.MethodPost, api.ClientsWrite, false},
	} {
		if got := panics(c.method, c.permission); got != c.want {
			t.Errorf("%s: refused is %t", c.name, got)
		}
	}
	// Even an operation that was registered in another way is refused, to everyone.
	s.Management().RegisterWithout()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/manage/v1/bypass", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+s.token(t, "administrator", nil))
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusForbidden {
		t.Errorf("an operation without a permission returns %s", response.Status)
	}
}
