package interop

import (
	"context"
	"encoding/json"
	"net/http"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/valetkey/valetkey/authservertest"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/person"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/record"
)

// springHome is what the application shows to a signed-in user.
type springHome struct {
	Subject      string `json:"subject"`
	Name         string `json:"name"`
	Email        string `json:"email"`
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
}

// TestSpringBoot signs in with Spring Boot's OAuth 2 client and its default settings:
// client_secret_basic, RS256, a nonce and no PKCE.
func TestSpringBoot(t *testing.T) {
	t.Parallel() // it mostly waits for a Java program to start
	need(t, "mvn")
	java, javac := need(t, "java"), need(t, "javac")
	dir := install(t, "spring", []string{"pom.xml", "SignIn.java", "checksums.txt"}, func(ctx context.Context, dir string) error {
		libraries := exec.CommandContext(ctx, "mvn", "--batch-mode", "--quiet", "dependency:copy-dependencies",
			"-DincludeScope=runtime", "-DoutputDirectory=lib")
		// Maven has no lock file, so the checksums of the downloads are checked here.
		sums := exec.CommandContext(ctx, "sha256sum", "--check", "--strict", "--quiet", "checksums.txt")
		compile := exec.CommandContext(ctx, javac, "-cp", "lib/*", "-d", "classes", "SignIn.java")
		for _, command := range []*exec.Cmd{libraries, sums, compile} {
			command.Dir = dir
			if err := run(command); err != nil {
				return err
			}
		}
		return nil
	})

	address := freeAddress(t)
	app := "http://" + address
	server := authservertest.NewServer(t, authservertest.Config{
		Declarations: configuration.Declarations{
			Clients: []configuration.Client{{ID: clientID, Secret: plainSecret, ClientMetadata: oauth.ClientMetadata{
				RedirectURIs: []string{app + "/login/oauth2/code/valetkey"},
				GrantTypes:   []string{oauth.GrantTypeAuthorizationCode, oauth.GrantTypeRefreshToken},
				Scope:        "openid profile email offline_access " + apiScope,
			}}},
			Users: []configuration.User{{
				Username: "alice", Password: "correct horse battery", Name: "Alice Example", Email: "alice@example.com",
			}},
			Scopes:    []record.Scope{{Name: apiScope}},
			Resources: []record.Resource{{Identifier: "https://albums.example.com", Scopes: []string{apiScope}}},
		},
		// Spring refreshes an access token in its last minute: here, at each request.
		Lifetimes: configuration.Lifetimes{AccessToken: record.Duration(30 * time.Second)},
	})
	const registration = "--spring.security.oauth2.client.registration.valetkey."
	startCommand(t, address, exec.CommandContext(t.Context(), java, "-XX:TieredStopAtLevel=1", "-cp", filepath.Join(dir, "classes")+":"+filepath.Join(dir, "lib", "*"),
		"com.example.signin.SignIn", "--server.address=127.0.0.1", "--server.port="+address[len("127.0.0.1:"):],
		registration+"client-id="+clientID, registration+"client-secret="+plainSecret,
		registration+"scope=openid,profile,email,offline_access,"+apiScope,
		"--spring.security.oauth2.client.provider.valetkey.issuer-uri="+server.Issuer))

	alice := person.New("alice", "correct horse battery")
	if err := alice.Allow(app + "/"); err != nil {
		t.Fatal(err)
	}
	first, second := springHomeOf(t, alice, app), springHomeOf(t, alice, app)
	if first.Subject == "" || first.Name != "Alice Example" || first.Email != "alice@example.com" {
		t.Errorf("the application knows %+v", first)
	}
	if second.Subject != first.Subject || second.AccessToken == first.AccessToken || second.RefreshToken == first.RefreshToken {
		t.Error("the application did not refresh its tokens")
	}
}

func springHomeOf(t *testing.T, p *person.Person, app string) springHome {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, app+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, cookie := range p.Cookies(app + "/") {
		request.AddCookie(cookie)
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Fatalf("the application's page has status %s and Location %q", response.Status, response.Header.Get("Location"))
	}
	var home springHome
	if err := json.NewDecoder(response.Body).Decode(&home); err != nil {
		t.Fatal(err)
	}
	return home
}
