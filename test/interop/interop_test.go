// Package interop tests the server with clients of other projects: they sign in, call an API and
// revoke their access, as their own documentation shows it.
package interop

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/valetkey/valetkey/storage/record"
)

// report is what a client reports about its run.
type report struct {
	Subject      string `json:"subject"`
	Name         string `json:"name"`
	Email        string `json:"email"`
	API          string `json:"api"` // the subject that the API saw
	Rotated      bool   `json:"rotated"`
	APIRefreshed string `json:"api_refreshed"`
	ActiveBefore bool   `json:"active_before"`
	ActiveAfter  bool   `json:"active_after"`
	APIAfter     int    `json:"api_after"` // the API's status after the revocation
	Refusal      string `json:"refusal"`   // the error for the refresh token after its revocation
	APIService   string `json:"api_service"`
	APIByKey     string `json:"api_by_key"` // the client that authenticated with private_key_jwt
	Logout       string `json:"logout"`
}

// inBothFormats runs a client once with JWT access tokens, which the API verifies itself, and once
// with opaque ones, which it introspects.
func inBothFormats(t *testing.T, secret, byKey string, runClient func(*testing.T, *world) report) {
	for format, after := range map[string]int{
		// The API accepts a JWT until it expires; only introspection shows that it was revoked.
		record.AccessTokenJWT:    http.StatusOK,
		record.AccessTokenOpaque: http.StatusUnauthorized,
	} {
		t.Run(format, func(t *testing.T) {
			got := runClient(t, newWorld(t, secret, format))
			if got.Subject == "" {
				t.Error("the ID token has no subject")
			}
			want := report{
				Subject: got.Subject, Name: "Alice Example", Email: "alice@example.com", API: got.Subject,
				Rotated: true, APIRefreshed: got.Subject, ActiveBefore: true, ActiveAfter: false, APIAfter: after,
				Refusal: "invalid_grant", APIService: serviceID, APIByKey: byKey, Logout: got.Logout,
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("the report (-want +got):\n%s", diff)
			}
		})
	}
}

func TestOpenIDClient(t *testing.T) {
	node := need(t, "node")
	dir := installNode(t, "node")
	inBothFormats(t, oddSecret, keyholderID, func(t *testing.T, w *world) report {
		got := runScript(t, w, node, filepath.Join(dir, "signin.mjs"))
		if !strings.HasPrefix(got.Logout, w.issuer) || !strings.Contains(got.Logout, "id_token_hint=") {
			t.Errorf("the logout URL is %q", got.Logout)
		}
		return got
	})
}

func TestAuthlib(t *testing.T) {
	python, dir := installPython(t, "python")
	// Authlib accepts http, here on loopback, only with this setting.
	t.Setenv("AUTHLIB_INSECURE_TRANSPORT", "1")
	inBothFormats(t, plainSecret, olderKeyholderID, func(t *testing.T, w *world) report {
		return runScript(t, w, python, filepath.Join(dir, "signin.py"))
	})
}

// installPython returns a Python interpreter that has the libraries, and the directory of the scripts.
func installPython(t *testing.T, name string) (interpreter, dir string) {
	t.Helper()
	python := need(t, "python3")
	dir = install(t, name, []string{"requirements.txt"}, func(ctx context.Context, dir string) error {
		if err := run(exec.CommandContext(ctx, python, "-m", "venv", filepath.Join(dir, "venv"))); err != nil {
			return err
		}
		return run(exec.CommandContext(ctx, filepath.Join(dir, "venv", "bin", "python"), "-m", "pip", "install",
			"--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:",
			"-r", filepath.Join(dir, "requirements.txt")))
	})
	return filepath.Join(dir, "venv", "bin", "python"), dir
}

func installNode(t *testing.T, name string) string {
	t.Helper()
	return install(t, name, []string{"package.json", "package-lock.json", ".npmrc"}, func(ctx context.Context, dir string) error {
		npm := exec.CommandContext(ctx, need(t, "npm"), "ci", "--ignore-scripts")
		npm.Dir = dir
		return run(npm)
	})
}

// runScript runs a client's program, acts as its browser, and returns its report.
func runScript(t *testing.T, w *world, program string, args ...string) report {
	t.Helper()
	visit := func(address string) (*url.URL, error) { return w.alice.Visit(address, redirectURI) }
	var got report
	converse(t, w.environment(t), visit, &got, program, args...)
	return got
}

// converse runs a client's program, visits each URL that it prints like a browser, and reads the
// report that it prints at the end.
func converse(t *testing.T, environment []string, visit func(string) (*url.URL, error), got any, program string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, program, args...)
	command.Env = append(os.Environ(), environment...)
	var stderr bytes.Buffer
	command.Stderr = &stderr
	stdin, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, 1<<20)
	fail := func(err error) {
		t.Helper()
		cancel()
		command.Wait()
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	for {
		if !lines.Scan() {
			fail(io.ErrUnexpectedEOF)
		}
		if !strings.HasPrefix(lines.Text(), "http") {
			break
		}
		callback, err := visit(lines.Text())
		if err != nil {
			fail(err)
		}
		if _, err := io.WriteString(stdin, callback.String()+"\n"); err != nil {
			fail(err)
		}
	}
	if err := json.Unmarshal(lines.Bytes(), got); err != nil {
		fail(err)
	}
	if err := command.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
}

// install copies a client's directory to the cache and installs its libraries there, once for each
// version of the files that pin them.
func install(t *testing.T, name string, pins []string, fetch func(ctx context.Context, dir string) error) string {
	t.Helper()
	sum := sha256.New()
	for _, pin := range pins {
		b, err := os.ReadFile(filepath.Join(name, pin))
		if err != nil {
			t.Fatal(err)
		}
		sum.Write(b)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = t.TempDir()
	}
	dir := filepath.Join(cache, "valetkey-interop", name+"-"+hex.EncodeToString(sum.Sum(nil))[:16])
	installed := filepath.Join(dir, "installed")
	_, err = os.Stat(installed)
	fresh := err != nil
	if fresh {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	// The scripts are copied each time: they change more often than the libraries.
	if err := copyFiles(name, dir); err != nil {
		t.Fatal(err)
	}
	if !fresh {
		return dir
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if err := fetch(ctx, dir); err != nil {
		unavailable(t, "the libraries cannot be installed: %v", err)
	}
	if err := os.WriteFile(installed, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func copyFiles(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if !entry.Type().IsRegular() {
			continue
		}
		b, err := os.ReadFile(filepath.Join(from, entry.Name()))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, entry.Name()), b, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func need(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		unavailable(t, "%v", err)
	}
	return path
}

// unavailable skips the test, or fails it in CI, where no test may be skipped.
func unavailable(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

func run(command *exec.Cmd) error {
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}
