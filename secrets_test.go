package valetkey_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/valetkey/valetkey"
	"github.com/valetkey/valetkey/audit"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/database"
	"github.com/valetkey/valetkey/internal/person"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
)

// lockedBuffer is a log for concurrent goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// A user signs in, an application gets and refreshes tokens, and the code is replayed. None of
// the secrets is in the log at debug level or in the files of the database.
func TestLO01_SG01_NoSecretInLogOrDatabase(t *testing.T) {
	const password, clientSecret = "engine no. 1 of 1837", "client-secret-0123456789abcdef"
	const callback = "http://127.0.0.1:9/callback"
	folder := t.TempDir()
	web := httptest.NewUnstartedServer(nil)
	issuer := "http://" + web.Listener.Addr().String()
	log := &lockedBuffer{}
	config := valetkey.Config{
		Configuration: configuration.Configuration{
			Issuer: issuer, Database: "sqlite:" + filepath.Join(folder, "valetkey.db"),
			Declarations: configuration.Declarations{
				Clients: []configuration.Client{{ID: "app", Secret: clientSecret, ClientMetadata: oauth.ClientMetadata{
					RedirectURIs: []string{callback}, GrantTypes: []string{"authorization_code", "refresh_token"},
				}}},
			},
		},
		Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	server, err := valetkey.New(config)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	web.Config.Handler = server
	web.Start()
	defer web.Close()

	ctx := context.Background()
	link, err := server.SetupURL(ctx) // while there are no users
	if err != nil {
		t.Fatal(err)
	}
	setup, err := url.Parse(link)
	if err != nil {
		t.Fatal(err)
	}
	send(t, http.MethodGet, link, nil)
	declared := config.Declarations
	declared.Users = []configuration.User{{Username: "ada", Password: password}}
	if _, err := server.Apply(ctx, declared); err != nil {
		t.Fatal(err)
	}
	c, err := client.Discover(ctx, client.Config{
		Issuer: issuer, ClientID: "app", ClientSecret: clientSecret, RedirectURI: callback, Scopes: []string{"openid", "offline_access"},
	})
	if err != nil {
		t.Fatal(err)
	}
	address, transaction, err := c.AuthorizationURL(t.Context(), client.AuthorizationOptions{})
	if err != nil {
		t.Fatal(err)
	}
	browser := person.New("ada", password)
	answer, err := browser.Visit(address, callback)
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := c.Callback(ctx, transaction, answer.Query())
	if err != nil {
		t.Fatal(err)
	}
	secrets := map[string]string{
		"password": password, "client_secret": clientSecret, "code": answer.Query().Get("code"),
		"access token": tokens.AccessToken, "ID token": tokens.IDToken, "refresh token": tokens.RefreshToken,
		"setup token": setup.Query().Get("token"),
	}
	for _, cookie := range browser.Cookies(issuer + "/") {
		secrets["cookie "+cookie.Name] = cookie.Value
	}
	if len(secrets) < 8 {
		t.Fatal("the browser has no cookie")
	}
	// A refresh, a replay of the code, and tokens in wrong places.
	endpoint := issuer + "/token"
	send(t, http.MethodPost, endpoint, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {tokens.RefreshToken}, "client_id": {"app"}, "client_secret": {clientSecret}})
	send(t, http.MethodPost, endpoint, url.Values{"grant_type": {"authorization_code"}, "code": {secrets["code"]}, "redirect_uri": {callback}, "client_id": {"app"}, "client_secret": {clientSecret}})
	send(t, http.MethodPost, endpoint, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {secrets["code"]}, "client_id": {"app"}, "client_secret": {clientSecret + "x"}})
	send(t, http.MethodGet, issuer+"/userinfo?access_token="+tokens.AccessToken, nil)
	send(t, http.MethodGet, issuer+"/nothing?code="+secrets["code"], nil)

	web.Close()
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	places := map[string]string{"the log": log.String(), "the audit log": auditOf(t, &config.Configuration)}
	files, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		content, err := os.ReadFile(filepath.Join(folder, file.Name()))
		if err != nil {
			t.Fatal(err)
		}
		places[file.Name()] = string(content)
	}
	if !strings.Contains(places["the log"], "path=/token") || !strings.Contains(places["valetkey.db"], "ada") {
		t.Fatal("the log or the database is not the one that was used")
	}
	for name, secret := range secrets {
		if len(secret) < 16 {
			t.Errorf("the %s is %q: the test did not get it", name, secret)
		}
		for place, content := range places {
			if strings.Contains(content, secret) {
				t.Errorf("the %s is in %s", name, place)
			}
		}
	}
}

// auditOf returns all audit records. They tell what happened, and contain no hashes and keys either.
func auditOf(t *testing.T, config *configuration.Configuration) string {
	t.Helper()
	store, err := database.Open(t.Context(), config, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	records, err := store.AuditRecords(t.Context(), audit.Filter{Limit: audit.MaxLimit})
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	actors := map[string]audit.Kind{}
	for _, r := range records {
		all.WriteString(r.Text + "\n")
		actors[r.Event] = r.Actor.Kind
		if r.Actor.Kind == audit.KindUser && (r.Actor.Address != "127.0.0.1" || r.Actor.Name != "ada" || r.Actor.Reference == "") {
			t.Errorf("the actor of %s is %+v", r.Event, r.Actor)
		}
	}
	for event, actor := range map[string]audit.Kind{
		"signing_key.created": audit.KindSystem, "client.created": audit.KindFile, "user.created": audit.KindFile, "declarations.applied": audit.KindFile,
		"sign_in.succeeded": audit.KindUser, "consent.granted": audit.KindUser, "token.replayed": audit.KindClient,
	} {
		if actors[event] != actor {
			t.Errorf("the actor of %s is %q, want %q", event, actors[event], actor)
		}
	}
	for _, secret := range []string{"$argon2", "PRIVATE KEY", "hash\""} {
		if strings.Contains(all.String(), secret) {
			t.Errorf("the audit log contains %s", secret)
		}
	}
	return all.String()
}

func send(t *testing.T, method, address string, form url.Values) {
	t.Helper()
	request, err := http.NewRequest(method, address, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	if form != nil {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		t.Fatal(err)
	}
}
