package manage_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/valetkey/valetkey"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/manage"
	"github.com/valetkey/valetkey/manage/api"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/record"
)

const secret = "0123456789abcdef0123456789abcdef"

// server is a complete server with a service account for each role.
type server struct {
	*valetkey.Server
	url string
}

// start starts a server whose issuer is its own address on loopback.
func start(t *testing.T, change func(*valetkey.Config)) *server {
	t.Helper()
	s := &server{}
	listener := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.ServeHTTP(w, r) }))
	t.Cleanup(listener.Close)
	s.url = listener.URL
	config := valetkey.Config{
		Configuration: configuration.Configuration{Issuer: s.url, Database: "sqlite:" + filepath.Join(t.TempDir(), "test.db")},
		File:          "/etc/valetkey.yaml",
		Logger:        slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	config.Source = "test"
	config.Clients = accounts(s.url)
	if change != nil {
		change(&config)
	}
	var err error
	if s.Server, err = valetkey.New(config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// allScopes are the scopes of all permissions.
func allScopes() string {
	var scope oauth.Scope
	for _, p := range api.Permissions() {
		scope = append(scope, string(p))
	}
	return scope.String()
}

// accounts returns a service account for each role, named like it, and two that have a role and lack
// something else.
func accounts(issuer string) []configuration.Client {
	account := func(id, role string, resources ...string) configuration.Client {
		return configuration.Client{ID: id, Secret: secret,
			ClientMetadata: oauth.ClientMetadata{GrantTypes: []string{oauth.GrantTypeClientCredentials}, Scope: allScopes()},
			ClientSettings: record.ClientSettings{Role: role, Resources: resources}}
	}
	list := []configuration.Client{account("nobody", "", manage.Identifier(issuer)), account("not-allowed", "administrator")}
	for _, role := range api.Roles() {
		list = append(list, account(string(role), string(role), manage.Identifier(issuer)))
	}
	return list
}

// token returns an access token of a service account.
func (s *server) token(t *testing.T, client string, form url.Values) string {
	t.Helper()
	token, problem := s.requestToken(t, client, form)
	if token == "" {
		t.Fatalf("no token for %s: %s", client, problem)
	}
	return token
}

func (s *server) requestToken(t *testing.T, client string, form url.Values) (token, problem string) {
	t.Helper()
	if form == nil {
		form = url.Values{"resource": {manage.Identifier(s.url)}}
	}
	form.Set("grant_type", "client_credentials")
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/token", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth(client, secret)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var body struct {
		AccessToken string `json:"access_token"`
		Error       string `json:"error"`
	}
	if err := json.NewDecoder(response.Body).Decode(&body); err != nil {
		t.Fatal(err)
	}
	return body.AccessToken, body.Error
}

// bearer adds an access token to requests.
type bearer string

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	if b != "" {
		r.Header.Set("Authorization", "Bearer "+string(b))
	}
	return http.DefaultTransport.RoundTrip(r)
}

func (s *server) connect(token string) *api.Connection {
	return &api.Connection{Issuer: s.url, HTTP: &http.Client{Transport: bearer(token)}}
}

func wantStatus(t *testing.T, what string, err error, want int) {
	t.Helper()
	got := api.StatusOf(err)
	if err == nil {
		got = http.StatusOK
	}
	if got != want {
		t.Errorf("%s: status %d, want %d (%v)", what, got, want, err)
	}
}

func TestAClientNeedsARoleTheResourceAndTheScope(t *testing.T) {
	s := start(t, nil)
	who, err := s.connect(s.token(t, "auditor", nil)).Whoami(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if who.Kind != "client" || who.ID != "auditor" || who.Role != api.RoleAuditor || !slices.Equal(who.Permissions, api.RoleAuditor.Permissions()) {
		t.Errorf("whoami is %+v", who)
	}
	if _, problem := s.requestToken(t, "not-allowed", nil); problem != string(oauth.InvalidTarget) {
		t.Errorf("a client whose resources do not name the API: %q", problem)
	}
	_, err = s.connect(s.token(t, "nobody", nil)).Whoami(t.Context())
	wantStatus(t, "a client without a role", err, http.StatusForbidden)

	_, err = s.connect(s.token(t, "not-allowed", url.Values{})).Whoami(t.Context())
	wantStatus(t, "a token for another audience", err, http.StatusUnauthorized)
	_, err = s.connect("").Whoami(t.Context())
	wantStatus(t, "no token", err, http.StatusUnauthorized)
	_, err = s.connect("nonsense").Whoami(t.Context())
	wantStatus(t, "an invalid token", err, http.StatusUnauthorized)

	narrow := s.connect(s.token(t, "administrator", url.Values{"scope": {"users:read"}, "resource": {manage.Identifier(s.url)}}))
	_, err = narrow.Users(t.Context(), api.List{})
	wantStatus(t, "an administrator's token with the scope", err, http.StatusOK)
	_, err = narrow.Clients(t.Context(), api.List{})
	wantStatus(t, "an administrator's token without the scope", err, http.StatusForbidden)
}

func TestALostUpdateIsRefused(t *testing.T) {
	s := start(t, nil)
	c := s.connect(s.token(t, "operator", nil))
	ctx := t.Context()
	created, err := c.CreateClient(ctx, &api.NewClient{ID: "app", ClientMembers: api.ClientMembers{ClientMetadata: oauth.ClientMetadata{RedirectURIs: []string{"https://app.example.com/cb"}}}}, api.Change{})
	if err != nil {
		t.Fatal(err)
	}
	if created.Secret == "" || created.Secrets != 1 {
		t.Errorf("the new client has no secret: %+v", created.Client)
	}
	read, err := c.Client(ctx, "app")
	if err != nil {
		t.Fatal(err)
	}
	if read.ETag != created.ETag {
		t.Errorf("the ETag of the new client is %s, later %s", created.ETag, read.ETag)
	}
	members := read.ClientMembers
	members.ClientName = "First"
	_, err = c.UpdateClient(ctx, "app", "", &members, api.Change{})
	wantStatus(t, "without If-Match", err, http.StatusPreconditionRequired)
	dry, err := c.UpdateClient(ctx, "app", read.ETag, &members, api.Change{DryRun: true})
	if err != nil || dry.ClientName != "First" {
		t.Fatalf("dry run: %v", err)
	}
	if _, err = c.UpdateClient(ctx, "app", read.ETag, &members, api.Change{}); err != nil {
		t.Fatalf("the dry run changed something: %v", err)
	}
	members.ClientName = "Second"
	_, err = c.UpdateClient(ctx, "app", read.ETag, &members, api.Change{})
	wantStatus(t, "with an old ETag", err, http.StatusPreconditionFailed)
	wantStatus(t, "delete with an old ETag", c.DeleteClient(ctx, "app", read.ETag, api.Change{}), http.StatusPreconditionFailed)
	now, err := c.Client(ctx, "app")
	if err != nil || now.ClientName != "First" {
		t.Fatalf("the lost update has happened: %+v, %v", now, err)
	}
	if err := c.DeleteClient(ctx, "app", now.ETag, api.Change{}); err != nil {
		t.Fatal(err)
	}
	_, err = c.Client(ctx, "app")
	wantStatus(t, "a deleted client", err, http.StatusNotFound)
}

func TestWhatAFileDeclaresIsChangedThere(t *testing.T) {
	s := start(t, nil)
	c := s.connect(s.token(t, "administrator", nil))
	declared, err := c.Client(t.Context(), "auditor")
	if err != nil {
		t.Fatal(err)
	}
	if declared.DeclaredBy != "/etc/valetkey.yaml" {
		t.Errorf("declared_by is %q", declared.DeclaredBy)
	}
	_, err = c.UpdateClient(t.Context(), "auditor", declared.ETag, &declared.ClientMembers, api.Change{})
	wantStatus(t, "change", err, http.StatusConflict)
	if err == nil || !strings.Contains(err.Error(), "/etc/valetkey.yaml") {
		t.Errorf("the error does not name the file: %v", err)
	}
}

func TestNobodyGivesMoreThanTheyHave(t *testing.T) {
	s := start(t, nil)
	operator := s.connect(s.token(t, "operator", nil))
	account := func(role string, scope string) *api.NewClient {
		return &api.NewClient{ClientMembers: api.ClientMembers{
			ClientMetadata: oauth.ClientMetadata{GrantTypes: []string{oauth.GrantTypeClientCredentials}, Scope: scope},
			ClientSettings: record.ClientSettings{Role: role, Resources: []string{manage.Identifier(s.url)}}}}
	}
	_, err := operator.CreateClient(t.Context(), account("administrator", "clients:read"), api.Change{})
	wantStatus(t, "an operator creates an administrator", err, http.StatusForbidden)
	_, err = operator.CreateClient(t.Context(), account("", "roles:write"), api.Change{})
	wantStatus(t, "an operator creates a client that can ask administrators for roles:write", err, http.StatusForbidden)
	_, err = operator.CreateClient(t.Context(), account("support", "clients:read"), api.Change{})
	wantStatus(t, "an operator creates a support account", err, http.StatusOK)
	narrow := s.connect(s.token(t, "administrator", url.Values{"scope": {"clients:read clients:write"}, "resource": {manage.Identifier(s.url)}}))
	_, err = narrow.CreateClient(t.Context(), account("support", "clients:read"), api.Change{})
	wantStatus(t, "a token without users:read creates an account that has it", err, http.StatusForbidden)
}

func TestClientsAreListedInPages(t *testing.T) {
	s := start(t, nil)
	c := s.connect(s.token(t, "support", nil))
	var ids []string
	for client, err := range c.AllClients(context.WithoutCancel(t.Context()), api.List{Limit: 2}) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, client.ID)
	}
	if want := []string{"administrator", "auditor", "nobody", "not-allowed", "operator", "support"}; !slices.Equal(ids, want) {
		t.Errorf("clients are %q, want %q", ids, want)
	}
	page, err := c.Clients(t.Context(), api.List{Filter: url.Values{"q": {"ADMIN"}}})
	if err != nil || len(page.Clients) != 1 {
		t.Errorf("filtered: %+v, %v", page, err)
	}
	_, err = c.Clients(t.Context(), api.List{Cursor: "!"})
	wantStatus(t, "a cursor from elsewhere", err, http.StatusBadRequest)
}

func TestACallFromWithinTheProcessHasTheUsersRole(t *testing.T) {
	s := start(t, func(c *valetkey.Config) {
		c.Users = []configuration.User{{Username: "ada", Subject: "ada-sub", Administrator: true}, {Username: "bob", Subject: "bob-sub"}}
	})
	who, err := s.Management().Connect(manage.Caller{UserID: "ada-sub"}).Whoami(t.Context())
	if err != nil || who.Role != api.RoleAdministrator || who.Name != "ada" {
		t.Errorf("ada: %+v, %v", who, err)
	}
	_, err = s.Management().Connect(manage.Caller{UserID: "bob-sub"}).Whoami(t.Context())
	wantStatus(t, "a user without a role", err, http.StatusForbidden)
	_, err = s.Management().Connect(manage.Caller{}).Whoami(t.Context())
	wantStatus(t, "no user", err, http.StatusUnauthorized)
}

func TestWithItsOwnListenerTheAPIIsServedOnlyThere(t *testing.T) {
	s := start(t, func(c *valetkey.Config) { c.Management.Listen = "127.0.0.1:0" })
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.ServeManagement(ctx, listener) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	c := s.connect(s.token(t, "auditor", nil))
	_, err = c.Whoami(t.Context())
	wantStatus(t, "at the issuer", err, http.StatusNotFound)
	c.Base = "http://" + listener.Addr().String() + api.Path
	if _, err = c.Whoami(t.Context()); err != nil {
		t.Errorf("at its own listener: %v", err)
	}
	if status := s.pageStatus(t, "http://"+listener.Addr().String()+"/sign-in"); status != http.StatusNotFound {
		t.Errorf("a page at the listener of the API: %d", status)
	}
}

func TestTheAPIDescribesItselfAsAProtectedResource(t *testing.T) {
	s := start(t, nil)
	response, err := http.Get(s.url + "/.well-known/oauth-protected-resource/manage/v1")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	refused, err := http.Get(s.url + "/manage/v1/whoami")
	if err != nil {
		t.Fatal(err)
	}
	_ = refused.Body.Close()
	if challenge := refused.Header.Get("WWW-Authenticate"); !strings.Contains(challenge, `resource_metadata="`+response.Request.URL.String()+`"`) {
		t.Errorf("the challenge is %s", challenge)
	}
	var metadata oauth.ProtectedResourceMetadata
	if err := json.NewDecoder(response.Body).Decode(&metadata); err != nil {
		t.Fatal(err)
	}
	if metadata.Resource != manage.Identifier(s.url) || !slices.Equal(metadata.AuthorizationServers, []string{s.url}) || !slices.Contains(metadata.ScopesSupported, "clients:read") {
		t.Errorf("the metadata is %+v", metadata)
	}
}
