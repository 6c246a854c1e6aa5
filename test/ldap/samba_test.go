package ldap

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/go-ldap/ldap/v3"

	"github.com/valetkey/valetkey/identity/directory"
)

const sambaConfig = `[global]
netbios name = DC1
realm = AD.EXAMPLE
workgroup = EXAMPLE
server role = active directory domain controller
server services = ldap
interfaces = lo
bind interfaces only = yes
tls enabled = yes
tls cafile = %[2]s
tls certfile = %[3]s
tls keyfile = %[4]s
lock dir = %[1]s
state directory = %[1]s/state
cache directory = %[1]s/cache
private dir = %[1]s/private
pid directory = %[1]s/run
ncalrpc dir = %[1]s/run/ncalrpc
log file = %[1]s/log
`

// Passwords that meet the complexity that a domain requires.
const (
	sambaPassword = "Passw0rd-Adm1n"
	adPassword    = "Correct-Horse-7"
)

// startSamba starts a domain controller. That takes 20 seconds, so there is one test. Its ports are
// those of the protocol: Samba has no others.
func startSamba(t *testing.T) *slapd {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("Samba's domain controller needs root")
	}
	if _, err := exec.LookPath("samba-tool"); err != nil {
		t.Fatal("the tests need Samba: apt-get install samba samba-ad-dc samba-dsdb-modules samba-vfs-modules winbind")
	}
	s := &slapd{certificates: newCertificates(t), plain: "ldap://127.0.0.1", tls: "ldaps://127.0.0.1", log: &lines{}}
	// The path of the socket must be short.
	folder, err := os.MkdirTemp("", "samba")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	var output bytes.Buffer
	provision := exec.CommandContext(t.Context(), "samba-tool", "domain", "provision", "--realm=AD.EXAMPLE", "--domain=EXAMPLE", "--server-role=dc",
		"--host-name=dc1", "--adminpass="+sambaPassword, "--dns-backend=NONE", "--targetdir="+folder)
	provision.Stdout, provision.Stderr = &output, &output
	if err := provision.Run(); err != nil {
		t.Fatalf("provision: %v\n%s", err, tail(output.String()))
	}
	if err := os.MkdirAll(filepath.Join(folder, "run"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(s.key, 0o600); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(folder, "etc", "smb.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, sambaConfig, folder, s.authority, s.certificate, s.key), 0o600); err != nil {
		t.Fatal(err)
	}
	program, err := exec.LookPath("samba")
	if err != nil {
		program = "/usr/sbin/samba"
	}
	command := exec.Command(program, "-i", "-M", "single", "--debug-stdout", "-s", config)
	command.Stdout, command.Stderr = s.log, s.log
	stdin, err := command.StdinPipe() // samba ends when its standard input does
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if s.admin != nil {
			s.admin.Close()
		}
		stdin.Close()
		command.Process.Kill()
		command.Wait() // it was killed
		if t.Failed() {
			s.log.mu.Lock()
			t.Logf("samba: %s", tail(s.log.text.String()))
			s.log.mu.Unlock()
		}
	})
	s.admin = dialAdmin(t, s.tls, s.authority, "administrator@ad.example", sambaPassword)
	return s
}

func adUser(name string) string { return "CN=" + name + ",CN=Users,DC=ad,DC=example" }

func (s *slapd) addADUser(t *testing.T, name string, more map[string][]string) {
	t.Helper()
	var quoted bytes.Buffer
	if err := binary.Write(&quoted, binary.LittleEndian, utf16.Encode([]rune(`"`+adPassword+`"`))); err != nil {
		t.Fatal(err)
	}
	attributes := map[string][]string{
		"objectClass": {"user"}, "sAMAccountName": {name}, "userPrincipalName": {name + "@ad.example"}, "displayName": {"The " + name},
		"unicodePwd": {quoted.String()}, "userAccountControl": {"512"},
	}
	for attribute, values := range more {
		attributes[attribute] = values
	}
	s.add(t, adUser(name), attributes)
}

func TestActiveDirectory(t *testing.T) {
	s := startSamba(t)
	for _, name := range []string{"valetkey", "ada", "bob"} {
		s.addADUser(t, name, nil)
	}
	yesterday := strconv.FormatInt((time.Now().Add(-24*time.Hour).Unix()+11644473600)*10_000_000, 10)
	s.addADUser(t, "disabled", map[string][]string{"userAccountControl": {"514"}})
	s.addADUser(t, "expired", map[string][]string{"accountExpires": {yesterday}})
	s.addADUser(t, "mustchange", map[string][]string{"pwdLastSet": {"0"}})
	s.add(t, adUser("engineering"), map[string][]string{"objectClass": {"group"}, "sAMAccountName": {"engineering"}, "member": {adUser("ada")}})
	s.add(t, adUser("staff"), map[string][]string{"objectClass": {"group"}, "sAMAccountName": {"staff"}, "member": {adUser("engineering")}})
	s.modify(t, adUser("engineering"), "member", adUser("ada"), adUser("staff")) // a cycle

	config := directory.Config{
		ID: "office", Name: "Example Office", Type: directory.TypeActiveDirectory, URLs: []string{s.tls}, CertificateAuthorities: s.authority,
		BindDN: adUser("valetkey"), BindPassword: adPassword, Base: "DC=ad,DC=example", Domains: []string{"ad.example", "EXAMPLE"},
		Rule: `{groups: claims.groups}`,
	}
	issuer := serve(t, []directory.Config{config}, withApp)
	for identifier, want := range map[string]bool{
		"ada@ad.example": true, `EXAMPLE\ada`: true, `example\ADA`: true, "ada": false,
		`EXAMPLE\*`: false, `EXAMPLE\disabled`: false, `EXAMPLE\expired`: false, `EXAMPLE\mustchange`: false, `EXAMPLE\nobody`: false,
	} {
		if got := signedIn(t, issuer, identifier, adPassword); got != want {
			t.Errorf("%q: signed in: %v", identifier, got)
		}
	}
	if signedIn(t, issuer, `EXAMPLE\ada`, "") || signedIn(t, issuer, `EXAMPLE\bob`, "wrong") {
		t.Error("signed in without the password")
	}
	if status, _, body := newBrowser(t, issuer).signIn(`EXAMPLE\mustchange`, adPassword); status != http.StatusForbidden || !strings.Contains(body, "expired or must be changed") {
		t.Errorf("a password that must be changed: %d", status)
	}
	if _, _, body := newBrowser(t, issuer).signIn(`EXAMPLE\mustchange`, "wrong"); strings.Contains(body, "expired or must be changed") {
		t.Error("a wrong password tells that the right one must be changed")
	}
	claims, amr, err := authorize(t, issuer, "wiki", `EXAMPLE\ada`, adPassword)
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(claims["groups"]) != "[engineering staff]" || claims["name"] != "The ada" || !slices.Equal(amr, []string{"pwd"}) {
		t.Errorf("claims %v, amr %v", claims, amr)
	}
	guide := fromGuide(t, "Active Directory", adPassword, "ldaps://dc1.ad.example", s.tls, "ldaps://dc2.ad.example", s.tls, "/etc/valetkey/office-ca.pem", s.authority)
	if !signedIn(t, serve(t, []directory.Config{guide}, nil), "ada@ad.example", adPassword) {
		t.Error("the configuration of the guide does not work")
	}
	// StartTLS, and the user principal name instead of a service account.
	config.URLs, config.BindDN, config.BindPassword, config.UserBind = []string{s.plain}, "", "", "{username}@ad.example"
	if !signedIn(t, serve(t, []directory.Config{config}, nil), `EXAMPLE\ada`, adPassword) {
		t.Error("user_bind with StartTLS does not work")
	}
	// A renamed user keeps the account.
	if err := s.admin.ModifyDN(ldap.NewModifyDNRequest(adUser("ada"), "CN=Ada Renamed", true, "")); err != nil {
		t.Fatal(err)
	}
	again, _, err := authorize(t, issuer, "app", `EXAMPLE\ada`, adPassword)
	if err != nil || again["sub"] != claims["sub"] {
		t.Errorf("after the rename: %v, %v", again, err)
	}
	t.Run("second factor", func(t *testing.T) {
		s.addADUser(t, "cleo", nil)
		key := setUpTOTP(t, issuer, `EXAMPLE\cleo`, adPassword)
		for disabled, flags := range map[bool]string{false: "512", true: "514"} {
			b := newBrowser(t, issuer)
			s.modify(t, adUser("cleo"), "userAccountControl", "512")
			if _, location, _ := b.signIn(`EXAMPLE\cleo`, adPassword); !strings.HasSuffix(location, "/sign-in/factor") {
				t.Fatalf("after the password: %s", location)
			}
			s.modify(t, adUser("cleo"), "userAccountControl", flags)
			steps := 0
			if disabled {
				steps = 1 // each code is valid once
			}
			status, location, _ := b.post("/sign-in/totp", url.Values{"code": {codeOf(t, key, steps)}})
			if signedIn := strings.Contains(location, "/account?signed_in"); signedIn == disabled {
				t.Errorf("disabled %v: %d %s", disabled, status, location)
			}
		}
	})
	t.Run("locked", func(t *testing.T) {
		// Others lock the account, at the directory itself.
		s.modify(t, "DC=ad,DC=example", "lockoutThreshold", "3")
		for range 4 {
			conn, err := ldap.DialURL(s.tls, ldap.DialWithTLSConfig(tlsConfig(t, s.authority)))
			if err != nil {
				t.Fatal(err)
			}
			if conn.Bind("bob@ad.example", "wrong") == nil {
				t.Fatal("a wrong password was accepted")
			}
			conn.Close()
		}
		if signedIn(t, issuer, `EXAMPLE\bob`, adPassword) {
			t.Error("a locked account can sign in")
		}
	})
}
