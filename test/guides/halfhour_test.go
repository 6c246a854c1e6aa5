package guides

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/valetkey/valetkey/internal/person"
)

const (
	halfHourIssuer = "https://login.example.com"
	operatorsWord  = "an operator's long password"

	colleaguesPassword = "a colleague's long password"
)

// TestTheFirstHalfHour follows "The first half hour" of operate.md: it runs every command block of the
// section, and does in a browser without scripts what the text says. Paths begin with a directory of the
// test, ports are free ones, and there is neither systemd nor another user.
func TestTheFirstHalfHour(t *testing.T) {
	guide, err := os.ReadFile("../../docs/guides/operate.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(guide), "\n## The first half hour\n")
	section, _, ended := strings.Cut(section, "\n## ")
	if !found || !ended {
		t.Fatal("operate.md has no such section")
	}
	m := newMachine(t)
	steps := strings.Split(section, "\n### ")[1:]
	reader := map[string]func(*testing.T){
		"Create the first administrator": m.createAdministrator,
		"Add an application":             m.addGrafana,
		"Invite a colleague":             m.inviteColleague,
		"Find out why a sign-in failed":  m.failToSignIn,
		"Back up, and restore elsewhere": m.checkRestored,
		"Go back to the server":          m.checkReal,
		"Put nginx in front of it":       m.trustAuthority,
		"Install the server":             func(*testing.T) {},
	}
	for _, step := range steps {
		title, text, _ := strings.Cut(step, "\n")
		then := reader[title]
		if then == nil {
			t.Fatalf("nobody follows the step %q", title)
		}
		delete(reader, title)
		before := title == "Find out why a sign-in failed" // what the commands explain happens first
		if before {
			then(t)
		}
		m.follow(t, title, text)
		if !before {
			then(t)
		}
	}
	for title := range reader {
		t.Errorf("the section has no step %q", title)
	}
}

// machine is where the operator works.
type machine struct {
	root          string // stands for the root directory
	path          *strings.Replacer
	backend, site string // addresses of the server and of nginx
	output        string // of the last commands
	reference     string // of a refused request
	roots         *x509.CertPool
	admin         *visitor
	grafana       map[string]string
	invitation    string // of the restored server
}

// shims are what a test does not have: systemd, its journal, and another user.
const shims = `set -euo pipefail
sudo() { shift 2; "$@"; }
useradd() { :; }
chgrp() { :; }
install() {
  local args=()
  while [ $# -gt 0 ]; do case "$1" in -o|-g) shift 2;; *) args+=("$1"); shift;; esac; done
  command install "${args[@]}"
}
nginx() { PATH="$PATH:/usr/sbin" command nginx -e stderr -p "$ROOT" -c "$ROOT/nginx.conf" "$@"; }
start() { # a command, like Type=notify
  "$@" >"$ROOT/journal" 2>&1 </dev/null &
  echo $! >"$ROOT/server.pid"
  for i in $(seq 2400); do grep -q 'listening on' "$ROOT/journal" && return; sleep 0.05; done
  cat "$ROOT/journal"; return 1
}
systemd-run() {
  while [ "${1#--}" != "$1" ]; do shift; done
  start "$@"
}
systemctl() {
  case "$*" in
  daemon-reload) ;;
  "enable --now valetkey"|"start valetkey")
    start $(sed -n 's/^ExecStart=//p' "$ROOT/etc/systemd/system/valetkey.service");;
  "stop valetkey"|"stop valetkey-restored")
    kill "$(cat "$ROOT/server.pid")"
    tail --pid="$(cat "$ROOT/server.pid")" -s 0.05 -f /dev/null;;
  "reload nginx") nginx -s reload;;
  *) echo "systemctl $*?"; return 1;;
  esac
}
journalctl() { cat "$ROOT/journal"; }
`

func newMachine(t *testing.T) *machine {
	m := &machine{root: t.TempDir(), backend: freeAddress(t), site: freeAddress(t)}
	redirects := freeAddress(t)
	m.path = strings.NewReplacer(
		" /etc/", " "+m.root+"/etc/", " /var/", " "+m.root+"/var/", "sqlite:/var/", "sqlite:"+m.root+"/var/",
		"go build -trimpath ", "go build ", // what other tests have compiled already
		"/usr/local/bin/", m.root+"/usr/local/bin/", "127.0.0.1:8080", m.backend,
		" deploy/", " "+m.root+"/deploy/",
		"listen 443 ", "listen "+m.site+" ", "listen 80;", "listen "+redirects+";",
		"valetkey doctor ", "valetkey doctor --connect-to "+m.site+" --http-port "+port(redirects)+" ",
	)
	for _, directory := range []string{"usr/local/bin", "etc/systemd/system", "etc/nginx/conf.d", "etc/letsencrypt", "var/tmp", "var/lib", "var/backups", "deploy/nginx", "logs"} {
		if err := os.MkdirAll(filepath.Join(m.root, directory), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"deploy/valetkey.service", "deploy/nginx/valetkey.conf"} {
		text, err := os.ReadFile(filepath.Join("../..", file))
		if err != nil {
			t.Fatal(err)
		}
		m.write(t, file, string(text))
	}
	m.startNginx(t)
	t.Cleanup(func() {
		text, err := os.ReadFile(filepath.Join(m.root, "server.pid"))
		if err != nil {
			return // it was not started
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err == nil {
			err = syscall.Kill(pid, syscall.SIGKILL)
		}
		if err != nil {
			t.Errorf("stop the server: %v", err)
		}
	})
	return m
}

// write writes a file of the guide, with the paths and addresses of this machine.
func (m *machine) write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(m.root, file), []byte(m.path.Replace(text)), 0o644); err != nil {
		t.Fatal(err)
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func port(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}

// startNginx starts nginx as a Debian package has it: without a server, and with conf.d.
func (m *machine) startNginx(t *testing.T) {
	t.Helper()
	program, err := exec.LookPath("nginx")
	if err != nil {
		program = "/usr/sbin/nginx" // often not on the PATH
	}
	if _, err := os.Stat(program); err != nil && os.Getenv("CI") != "true" {
		t.Skip("nginx is not installed")
	}
	user := ""
	if os.Getuid() == 0 {
		user = "user root;" // the directories of the test belong to root
	}
	temporary := ""
	for _, name := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		temporary += fmt.Sprintf("%s_temp_path %s;\n", name, filepath.Join(m.root, name))
	}
	m.write(t, "nginx.conf", fmt.Sprintf("%s pid %s/nginx.pid; error_log stderr crit; worker_processes 1;\nevents { worker_connections 256; }\nhttp {\naccess_log off;\n%sinclude %s/etc/nginx/conf.d/*.conf;\n}\n", user, m.root, temporary, m.root))
	var log bytes.Buffer
	command := exec.Command(program, "-e", "stderr", "-p", m.root, "-c", filepath.Join(m.root, "nginx.conf"), "-g", "daemon off;")
	command.Stderr = &log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	t.Cleanup(func() {
		command.Process.Signal(syscall.SIGTERM)
		<-ended
	})
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(m.root, "nginx.pid")); err == nil {
			return
		}
		select {
		case err := <-ended:
			t.Fatalf("nginx: %v\n%s", err, log.String())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatal("nginx does not start")
		}
	}
}

var savedAs = regexp.MustCompile("(?s)Save this as `/([^`]+)`.*?```yaml\n(.*?)```")

// follow runs the command blocks of a step, and saves the files that it shows.
func (m *machine) follow(t *testing.T, title, text string) {
	t.Helper()
	var block strings.Builder
	m.output = ""
	run := func() {
		if block.Len() > 0 {
			m.run(t, title, block.String())
			block.Reset()
		}
	}
	saved := savedAs.FindStringSubmatch(text)
	fenced := false
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "```") {
			if fenced = !fenced; !fenced {
				m.write(t, saved[1], saved[2])
			}
			continue
		}
		if command, ok := strings.CutPrefix(line, "    "); ok && !fenced {
			block.WriteString(command)
			continue
		}
		run()
	}
	run()
}

// run runs a block of commands. The reader stops at the first one that fails.
func (m *machine) run(t *testing.T, title, commands string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute) // for a build on a busy machine
	defer cancel()
	command := exec.CommandContext(ctx, "bash", "-c", shims+m.path.Replace(" "+commands))
	command.Dir = "../.."
	command.Env = append(os.Environ(), "ROOT="+m.root, "REFERENCE="+m.reference, "PATH="+m.root+"/usr/local/bin:"+os.Getenv("PATH"))
	output, err := os.Create(filepath.Join(m.root, "output"))
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	command.Stdout, command.Stderr = output, output // a file: the server that it starts does not end
	failed := command.Run()
	text, err := os.ReadFile(output.Name())
	if err != nil {
		t.Fatal(err)
	}
	m.output += string(text)
	if failed != nil {
		t.Fatalf("%s: %v\n%s\n%s", title, failed, commands, text)
	}
}

func (m *machine) trustAuthority(t *testing.T) {
	if !strings.Contains(m.output, "info     mail.none") || strings.Count(m.output, "fix:") != 1 || !strings.Contains(m.output, "passed:  issuer, files, tls, server, clock, proxy") {
		t.Errorf("doctor finds more than that there is no mail:\n%s", m.output)
	}
	authority, err := os.ReadFile(filepath.Join(m.root, "etc/valetkey/ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	m.roots = x509.NewCertPool()
	if !m.roots.AppendCertsFromPEM(authority) {
		t.Fatal("ca.pem has no certificate")
	}
}

// transport connects to nginx, whatever the DNS says, and trusts the authority of the guide.
func (m *machine) transport() *http.Transport {
	return &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: m.roots},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", m.site)
		},
	}
}

func (m *machine) createAdministrator(t *testing.T) {
	link := strings.TrimSpace(m.output)
	if !strings.HasPrefix(link, halfHourIssuer+"/setup?") || strings.Contains(link, "\n") {
		t.Fatalf("the command prints %q", m.output)
	}
	m.admin = newVisitor(t, m.transport())
	page := m.admin.open(link).submit("Create account", url.Values{"username": {"grace"}, "password": {operatorsWord}})
	page.has("Protect your own account", "Choose an application", "Invite a colleague")
}

func (m *machine) addGrafana(t *testing.T) {
	page := m.admin.open(halfHourIssuer + "/console/welcome").follow("Choose an application").follow("Grafana")
	page = page.submit("Create", url.Values{"base": {"https://grafana.example.com"}})
	m.grafana = map[string]string{}
	for line := range strings.Lines(page.textOf("pre")) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			m.grafana[strings.TrimPrefix(name, "GF_AUTH_GENERIC_OAUTH_")] = value
		}
	}
	user := person.New("grace", operatorsWord)
	user.Through(m.transport())
	m.signInToGrafana(t, user)
}

func (m *machine) inviteColleague(t *testing.T) {
	newVisitor(t, m.transport()).open(m.invite()).submit("Create account", url.Values{"username": {"alan"}, "password": {colleaguesPassword}})
	page := m.admin.open(halfHourIssuer+"/console/users").follow("alan").submit("Set", url.Values{"role": {"support"}})
	page.has("support")
	m.colleagueSignsIn(t)
}

// invite returns the link of a new invitation.
func (m *machine) invite() string {
	return m.admin.open(halfHourIssuer+"/console/users").follow("Invite").submit("Create the invitation", nil).textOf("code")
}

// colleagueSignsIn signs the colleague in to Grafana, in a new browser.
func (m *machine) colleagueSignsIn(t *testing.T) {
	t.Helper()
	colleague := person.New("alan", colleaguesPassword)
	colleague.Through(m.transport())
	m.signInToGrafana(t, colleague)
}

// authorizationRequest is what Grafana sends with its settings.
func (m *machine) authorizationRequest(root string) string {
	challenge := sha256.Sum256([]byte(grafanasVerifier))
	return m.grafana["AUTH_URL"] + "?" + url.Values{
		"response_type": {"code"}, "client_id": {m.grafana["CLIENT_ID"]}, "redirect_uri": {root + "/login/generic_oauth"},
		"scope": {m.grafana["SCOPES"]}, "state": {"a-state"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(challenge[:])}, "code_challenge_method": {"S256"},
	}.Encode()
}

const grafanasVerifier = "a-verifier-that-is-long-enough-for-RFC-7636-0123456789"

// signInToGrafana does what Grafana does when a user signs in there.
func (m *machine) signInToGrafana(t *testing.T, user *person.Person) {
	t.Helper()
	root := m.grafana["GF_SERVER_ROOT_URL"]
	back, err := user.Visit(m.authorizationRequest(root), root)
	if err != nil || back.Query().Get("code") == "" {
		t.Fatalf("%s signs in to Grafana: %v, %v", user.Username, back, err)
	}
	form := url.Values{"grant_type": {"authorization_code"}, "code": {back.Query().Get("code")}, "redirect_uri": {root + "/login/generic_oauth"}, "code_verifier": {grafanasVerifier}}
	request, err := http.NewRequest(http.MethodPost, m.grafana["TOKEN_URL"], strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.SetBasicAuth(url.QueryEscape(m.grafana["CLIENT_ID"]), url.QueryEscape(m.grafana["CLIENT_SECRET"]))
	var tokens struct {
		AccessToken string `json:"access_token"`
	}
	m.fetch(t, request, &tokens)
	request, err = http.NewRequest(http.MethodGet, m.grafana["API_URL"], nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+tokens.AccessToken)
	var claims map[string]any
	m.fetch(t, request, &claims)
	if claims[m.grafana["LOGIN_ATTRIBUTE_PATH"]] != user.Username {
		t.Errorf("Grafana gets %v about %s", claims, user.Username)
	}
}

func (m *machine) fetch(t *testing.T, request *http.Request, result any) {
	t.Helper()
	response, err := (&http.Client{Transport: m.transport()}).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode == http.StatusOK {
		err = json.Unmarshal(text, result)
	}
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %v\n%s", request.URL, response.Status, err, text)
	}
}

var reference = regexp.MustCompile(`\b[A-Z0-9]{4}-[A-Z0-9]{4}\b`)

func (m *machine) failToSignIn(t *testing.T) {
	refused := newVisitor(t, m.transport()).open(m.authorizationRequest("https://dashboards.example.com"))
	if m.reference = reference.FindString(refused.text()); m.reference == "" {
		t.Fatalf("the error page has no reference:\n%s", refused.text())
	}
	page := m.admin.open(halfHourIssuer + "/console").follow("Requests")
	page = m.admin.open(page.at.String() + "?q=" + m.reference)
	page.has("https://dashboards.example.com/login/generic_oauth", "https://grafana.example.com/login/generic_oauth")
}

func (m *machine) checkRestored(t *testing.T) {
	for _, text := range []string{"The master key opens it.", "administrator", "support", "grafana", "The chain is complete."} {
		if !strings.Contains(m.output, text) {
			t.Errorf("the commands do not print %q:\n%s", text, m.output)
		}
	}
	m.colleagueSignsIn(t)
	m.invitation = m.invite()
	newVisitor(t, m.transport()).open(m.invitation).has("Create account")
}

// checkReal finds the users and the client of the real database in it, but not the invitation of the
// restored one.
func (m *machine) checkReal(t *testing.T) {
	m.colleagueSignsIn(t)
	if page := newVisitor(t, m.transport()).open(m.invitation); strings.Contains(page.text(), "Create account") {
		t.Errorf("the real server knows the invitation of the restored one:\n%s", page.text())
	}
}

// visitor is a browser without scripts.
type visitor struct {
	t      *testing.T
	client *http.Client
}

func newVisitor(t *testing.T, transport http.RoundTripper) *visitor {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &visitor{t, &http.Client{Jar: jar, Transport: transport}}
}

// page is what the visitor sees.
type page struct {
	*visitor
	at   *url.URL
	root *html.Node
}

func (v *visitor) do(request *http.Request) *page {
	v.t.Helper()
	response, err := v.client.Do(request)
	if err != nil {
		v.t.Fatal(err)
	}
	defer response.Body.Close()
	root, err := html.Parse(response.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	return &page{v, response.Request.URL, root}
}

func (v *visitor) open(address string) *page {
	v.t.Helper()
	request, err := http.NewRequest(http.MethodGet, address, nil)
	if err != nil {
		v.t.Fatal(err)
	}
	return v.do(request)
}

// follow presses the link with a text.
func (p *page) follow(text string) *page {
	p.t.Helper()
	for n := range p.root.Descendants() {
		if n.Data == "a" && strings.Contains(textOf(n), text) {
			target, err := p.at.Parse(attribute(n, "href"))
			if err != nil {
				p.t.Fatal(err)
			}
			return p.open(target.String())
		}
	}
	p.t.Fatalf("%s has no link %q:\n%s", p.at, text, p.text())
	return nil
}

// submit fills in the form with a button, and presses the button.
func (p *page) submit(button string, values url.Values) *page {
	p.t.Helper()
	for form := range p.root.Descendants() {
		if form.Data != "form" {
			continue
		}
		filled, found := url.Values{}, false
		for n := range form.Descendants() {
			switch n.Data {
			case "input":
				if name := attribute(n, "name"); name != "" && attribute(n, "type") != "checkbox" && attribute(n, "type") != "radio" && !has(n, "disabled") {
					filled.Set(name, attribute(n, "value"))
				}
			case "button":
				if strings.TrimSpace(textOf(n)) == button {
					found = true
					if name := attribute(n, "name"); name != "" {
						filled.Set(name, attribute(n, "value"))
					}
				}
			}
		}
		if !found {
			continue
		}
		for name, value := range values {
			filled[name] = value
		}
		action, err := p.at.Parse(attribute(form, "action"))
		if err != nil {
			p.t.Fatal(err)
		}
		request, err := http.NewRequest(http.MethodPost, action.String(), strings.NewReader(filled.Encode()))
		if err != nil {
			p.t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		request.Header.Set("Origin", action.Scheme+"://"+action.Host)
		return p.do(request)
	}
	p.t.Fatalf("%s has no button %q:\n%s", p.at, button, p.text())
	return nil
}

// has fails unless the page has the texts.
func (p *page) has(texts ...string) {
	p.t.Helper()
	for _, text := range texts {
		if !strings.Contains(p.text(), text) {
			p.t.Fatalf("%s lacks %q:\n%s", p.at, text, p.text())
		}
	}
}

func (p *page) text() string { return textOf(p.root) }

// textOf returns the text of the first element of a kind.
func (p *page) textOf(element string) string {
	p.t.Helper()
	for n := range p.root.Descendants() {
		if n.Data == element && n.Type == html.ElementNode {
			return textOf(n)
		}
	}
	p.t.Fatalf("%s has no %s:\n%s", p.at, element, p.text())
	return ""
}

func textOf(n *html.Node) string {
	var text strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode && (d.Parent == nil || d.Parent.Data != "style" && d.Parent.Data != "script") {
			text.WriteString(d.Data)
		}
	}
	return text.String()
}

func has(n *html.Node, name string) bool {
	return slices.ContainsFunc(n.Attr, func(a html.Attribute) bool { return a.Key == name })
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}
