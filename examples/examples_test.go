// Package examples has the tests of the example programs. They start the programs as users
// would, and use them.
package examples

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/internal/person"
)

// world has the running authorization server and API of the examples.
type world struct {
	bin                 string
	issuer, webapp, api string
	bff, spa            string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{bin: t.TempDir()}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", w.bin, "./...")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	auth, webapp, api, bff, spa := freeAddress(t), freeAddress(t), freeAddress(t), freeAddress(t), freeAddress(t)
	w.issuer, w.webapp, w.api, w.bff, w.spa = "http://"+auth+"/auth", "http://"+webapp, "http://"+api, "http://"+bff, "http://"+spa
	w.start(t, auth, "embedding", "-listen", auth, "-webapp", w.webapp, "-api", w.api, "-bff", w.bff, "-spa", w.spa)
	w.start(t, api, "api", "-listen", api, "-issuer", w.issuer, "-browser", w.spa)
	return w
}

// freeAddress returns a loopback address that was free a moment ago.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// command returns a command that runs a built program and ends at the latest with the test.
func (w *world) command(t *testing.T, program string, args ...string) *exec.Cmd {
	command := exec.CommandContext(t.Context(), filepath.Join(w.bin, program), args...)
	command.Stderr = t.Output()
	return command
}

// start starts a server and waits until it listens.
func (w *world) start(t *testing.T, address, program string, args ...string) {
	t.Helper()
	command := w.command(t, program, args...)
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	t.Cleanup(func() { <-ended }) // its context is canceled before
	deadline := time.After(time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			return
		}
		select {
		case <-tick.C:
		case err := <-ended:
			ended <- err
			t.Fatalf("%s ended: %v", program, err)
		case <-deadline:
			t.Fatalf("%s does not listen on %s", program, address)
		}
	}
}

func TestExamples(t *testing.T) {
	w := newWorld(t)
	t.Run("api", w.testAPI)
	t.Run("webapp", w.testWebApp)
	t.Run("browser", w.testBrowser)
	t.Run("native", w.testNative)
	t.Run("device", w.testDevice)
	t.Run("callcenter", w.testCallCenter)
	t.Run("service", w.testService)
	t.Run("voucher", w.testVoucher)
}

func (w *world) testAPI(t *testing.T) {
	resp, _ := get(t, http.DefaultClient, w.api+"/notes")
	want := `Bearer resource_metadata="` + w.api + `/.well-known/oauth-protected-resource", scope="notes.read"`
	if got := resp.Header.Get("WWW-Authenticate"); resp.StatusCode != http.StatusUnauthorized || got != want {
		t.Errorf("status %d, challenge %s", resp.StatusCode, got)
	}
	_, body := get(t, http.DefaultClient, w.api+"/.well-known/oauth-protected-resource")
	if !strings.Contains(body, `"authorization_servers":["`+w.issuer+`"]`) {
		t.Errorf("the API's metadata is %s", body)
	}
}

func (w *world) testWebApp(t *testing.T) {
	w.start(t, strings.TrimPrefix(w.webapp, "http://"), "webapp",
		"-listen", strings.TrimPrefix(w.webapp, "http://"), "-issuer", w.issuer, "-api", w.api)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		if req.URL.Host == via[0].URL.Host {
			return nil
		}
		return http.ErrUseLastResponse // the user follows this one
	}}
	if _, body := get(t, browser, w.webapp+"/"); !strings.Contains(body, "You are not signed in") {
		t.Errorf("before: %s", body)
	}
	demo := person.New("demo", "valet-parking")
	resp, _ := get(t, browser, w.webapp+"/notes") // redirects to sign-in
	callback, err := demo.Visit(resp.Header.Get("Location"), w.webapp+"/auth/callback")
	if err != nil {
		t.Fatal(err)
	}
	// The callback does not work in another browser.
	if resp, body := get(t, http.DefaultClient, callback.String()); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("in another browser: status %d, %s", resp.StatusCode, body)
	}
	if resp, body := get(t, browser, callback.String()); resp.Request.URL.Path != "/notes" || !strings.Contains(body, "Water the plants") {
		t.Errorf("after sign-in: %s %s", resp.Request.URL, body)
	}
	if _, body := get(t, browser, w.webapp+"/"); !strings.Contains(body, "Hello, Demo Person.") {
		t.Errorf("home page: %s", body)
	}
	out, err := browser.Post(w.webapp+"/auth/sign-out", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	out.Body.Close()
	home, err := demo.Visit(out.Header.Get("Location"), w.webapp+"/auth/signed-out")
	if err != nil {
		t.Fatal(err)
	}
	if resp, body := get(t, browser, home.String()); resp.Request.URL.Path != "/" || !strings.Contains(body, "You are not signed in") {
		t.Errorf("after sign-out: %s %s", resp.Request.URL, body)
	}
}

func (w *world) testNative(t *testing.T) {
	native := w.command(t, "native", "-print", "-issuer", w.issuer, "-api", w.api)
	stdout, err := native.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := native.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(stdout)
	address, err := lines.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	asked, err := url.Parse(strings.TrimSpace(address))
	if err != nil {
		t.Fatal(err)
	}
	callback, err := person.New("demo", "valet-parking").Visit(asked.String(), asked.Query().Get("redirect_uri"))
	if err != nil {
		t.Fatal(err)
	}
	if _, body := get(t, http.DefaultClient, callback.String()); !strings.Contains(body, "close this window") {
		t.Errorf("the browser shows %s", body)
	}
	rest, err := io.ReadAll(lines)
	if err != nil {
		t.Fatal(err)
	}
	if err := native.Wait(); err != nil {
		t.Fatal(err)
	}
	if got := parse(t, rest); got.Client != "native" || got.Subject == "native" || len(got.Notes) != 1 {
		t.Errorf("the API responded with %s", rest)
	}
}

func (w *world) testDevice(t *testing.T) {
	device := w.command(t, "device", "-issuer", w.issuer, "-api", w.api)
	stdout, err := device.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := device.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(stdout)
	instruction, err := lines.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var page, code string
	if _, err := fmt.Sscanf(instruction, "Go to %s and enter %s", &page, &code); err != nil {
		t.Fatalf("%v: %s", err, instruction)
	}
	if err := person.New("demo", "valet-parking").Allow(page + "?user_code=" + code); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(lines)
	if err != nil {
		t.Fatal(err)
	}
	if err := device.Wait(); err != nil {
		t.Fatal(err)
	}
	drawn, answered, _ := strings.Cut(string(rest), "{")
	if !strings.Contains(drawn, "█▀▀▀▀▀█") {
		t.Errorf("no QR code in %s", drawn)
	}
	if got := parse(t, []byte("{"+answered)); got.Client != "television" || got.Subject == "television" || len(got.Notes) != 1 {
		t.Errorf("the API responded with %s", answered)
	}
}

func (w *world) testCallCenter(t *testing.T) {
	for _, deny := range []bool{false, true} {
		center := w.command(t, "callcenter", "-issuer", w.issuer, "-api", w.api)
		stdout, err := center.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := center.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(stdout)
		instruction, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		var text, page string
		if _, err := fmt.Sscanf(instruction, "Tell the user: approve the request %s at %s", &text, &page); err != nil || page != w.issuer+"/account" {
			t.Fatalf("%v: %s", err, instruction)
		}
		demo := person.New("demo", "valet-parking")
		demo.Deny = deny
		if err := demo.Approve(w.issuer); err != nil {
			t.Fatal(err)
		}
		rest, err := io.ReadAll(lines)
		if err != nil {
			t.Fatal(err)
		}
		if err := center.Wait(); (err != nil) != deny {
			t.Fatalf("denied %v: the program ended with %v", deny, err)
		}
		if deny {
			if len(rest) > 0 {
				t.Errorf("the user denied the request, and the program printed %s", rest)
			}
			continue
		}
		if got := parse(t, rest); got.Client != "callcenter" || got.Subject == "callcenter" || len(got.Notes) != 1 {
			t.Errorf("the API responded with %s", rest)
		}
	}
}

func (w *world) testService(t *testing.T) {
	out, err := w.command(t, "service", "-issuer", w.issuer, "-api", w.api).Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := parse(t, out); got.Client != "service" || got.Subject != "service" || len(got.Notes) != 1 {
		t.Errorf("the API responded with %s", out)
	}
	if err := w.command(t, "service", "-issuer", w.issuer, "-api", w.api, "-secret", "wrong").Run(); err == nil {
		t.Error("a wrong secret was accepted")
	}
}

func (w *world) testVoucher(t *testing.T) {
	redeem := func(client, voucher string) (status int, token string) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		form := url.Values{"grant_type": {"https://notes.example.com/grants/voucher"}, "voucher": {voucher}}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.issuer+"/token", strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.SetBasicAuth(client, client+"-secret-of-the-examples-only")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var tokens struct {
			AccessToken string `json:"access_token"`
		}
		if err := json.NewDecoder(resp.Body).Decode(&tokens); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, tokens.AccessToken
	}
	_, token := redeem("kiosk", "XK4-209")
	_, payload, _ := strings.Cut(token, ".")
	payload, _, _ = strings.Cut(payload, ".")
	claims, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil || !strings.Contains(string(claims), `"table":12`) || !strings.Contains(string(claims), `"edition":"evening"`) {
		t.Errorf("the access token has %s, %v", claims, err)
	}
	if _, token := redeem("kiosk", "XK4-210"); w.callAPI(t, token).Subject == "kiosk" {
		t.Error("the user's voucher results in a token for the kiosk itself")
	}
	for _, test := range []struct{ client, voucher string }{{"kiosk", "XK4-209"}, {"kiosk", "XK4-999"}, {"service", "XK4-211"}} {
		if status, token := redeem(test.client, test.voucher); status != http.StatusBadRequest || token != "" {
			t.Errorf("%s with %s: %d", test.client, test.voucher, status)
		}
	}
}

func (w *world) callAPI(t *testing.T, token string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.api+"/notes", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, body)
}

type answer struct {
	Subject string   `json:"subject"`
	Client  string   `json:"client"`
	Notes   []string `json:"notes"`
}

func parse(t *testing.T, b []byte) answer {
	t.Helper()
	var a answer
	if err := json.Unmarshal(b, &a); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	return a
}

func get(t *testing.T, h *http.Client, address string) (*http.Response, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := h.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}
