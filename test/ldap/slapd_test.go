package ldap

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"
)

const (
	adminDN       = "cn=admin,dc=corp,dc=example"
	adminPassword = "admin-7f3a91c4"
	userPassword  = "correct horse battery"
)

// certificates are files of an authority and of a server on 127.0.0.1 and localhost.
type certificates struct{ authority, certificate, key string }

func newCertificates(t *testing.T, names ...string) certificates {
	t.Helper()
	folder := t.TempDir()
	write := func(name, kind string, content []byte) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	template := func(name string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), BasicConstraintsValid: true,
		}
	}
	newKey := func() *ecdsa.PrivateKey {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	authorityKey, serverKey := newKey(), newKey()
	authority := template("Test CA")
	authority.IsCA, authority.KeyUsage = true, x509.KeyUsageCertSign|x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, authority, authority, authorityKey.Public(), authorityKey)
	if err != nil {
		t.Fatal(err)
	}
	server := template("directory")
	server.DNSNames, server.KeyUsage = names, x509.KeyUsageDigitalSignature
	server.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	if len(names) == 0 {
		server.DNSNames, server.IPAddresses = []string{"localhost"}, []net.IP{net.ParseIP("127.0.0.1")}
	}
	serverDER, err := x509.CreateCertificate(rand.Reader, server, authority, serverKey.Public(), authorityKey)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(serverKey)
	if err != nil {
		t.Fatal(err)
	}
	return certificates{write("ca.pem", "CERTIFICATE", der), write("server.pem", "CERTIFICATE", serverDER), write("server.key", "PRIVATE KEY", keyDER)}
}

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

// slapd is a running OpenLDAP server.
type slapd struct {
	certificates
	plain, tls string // URLs
	log        *lines
	admin      *ldap.Conn
}

// lines collects the log of slapd.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// binds returns how many binds slapd has received with a DN.
func (s *slapd) binds(dn string) int {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	return strings.Count(s.log.text.String(), `BIND dn="`+dn+`" method=128`)
}

func (s *slapd) logged(text string) bool {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	return strings.Contains(s.log.text.String(), text)
}

const slapdConfig = `
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/nis.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload ppolicy
pidfile %[1]s/slapd.pid
TLSCACertificateFile %[2]s
TLSCertificateFile %[3]s
TLSCertificateKeyFile %[4]s
security simple_bind=128
sizelimit size.soft=500 size.hard=500 size.pr=500 size.prtotal=unlimited
database mdb
suffix "dc=corp,dc=example"
rootdn "%[5]s"
rootpw %[6]s
directory %[1]s/data
maxsize 104857600
dbnosync
index objectClass,uid,mail,member,entryUUID eq
overlay ppolicy
ppolicy_default "cn=policy,dc=corp,dc=example"
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="cn=valetkey,dc=corp,dc=example" read by self read by users search by * none
`

// startSlapd starts OpenLDAP with people and groups. It refuses passwords on unencrypted connections.
func startSlapd(t *testing.T) *slapd {
	t.Helper()
	program, err := exec.LookPath("slapd")
	if err != nil {
		if program, err = exec.LookPath("/usr/sbin/slapd"); err != nil {
			t.Fatal("the tests need slapd: apt-get install slapd")
		}
	}
	s := &slapd{certificates: newCertificates(t), log: &lines{}}
	folder := t.TempDir()
	if err := os.Mkdir(filepath.Join(folder, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(folder, "slapd.conf")
	text := fmt.Sprintf(slapdConfig, folder, s.authority, s.certificate, s.key, adminDN, adminPassword)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.plain, s.tls = fmt.Sprintf("ldap://127.0.0.1:%d", freePort(t)), fmt.Sprintf("ldaps://127.0.0.1:%d", freePort(t))
	ctx, cancel := context.WithCancel(context.Background())
	command := exec.CommandContext(ctx, program, "-d", "stats", "-f", config, "-h", s.plain+" "+s.tls)
	command.Stderr = s.log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if s.admin != nil {
			s.admin.Close()
		}
		cancel()
		command.Wait() // it was killed
		if t.Failed() {
			s.log.mu.Lock()
			t.Logf("slapd: %s", tail(s.log.text.String()))
			s.log.mu.Unlock()
		}
	})
	s.admin = dialAdmin(t, s.tls, s.authority, adminDN, adminPassword)
	for _, entry := range []struct {
		dn         string
		attributes map[string][]string
	}{
		{"dc=corp,dc=example", map[string][]string{"objectClass": {"dcObject", "organization"}, "dc": {"corp"}, "o": {"Example Corp"}}},
		{"cn=policy,dc=corp,dc=example", map[string][]string{"objectClass": {"pwdPolicy", "device"}, "cn": {"policy"}, "pwdAttribute": {"userPassword"}, "pwdLockout": {"TRUE"}, "pwdMaxFailure": {"50"}, "pwdMustChange": {"TRUE"}}},
		{"ou=people,dc=corp,dc=example", map[string][]string{"objectClass": {"organizationalUnit"}, "ou": {"people"}}},
		{"ou=groups,dc=corp,dc=example", map[string][]string{"objectClass": {"organizationalUnit"}, "ou": {"groups"}}},
		{"cn=valetkey,dc=corp,dc=example", map[string][]string{"objectClass": {"device", "simpleSecurityObject"}, "cn": {"valetkey"}, "userPassword": {"service-7f3a91c4"}}},
	} {
		s.add(t, entry.dn, entry.attributes)
	}
	s.addUser(t, "alice", nil)
	s.addUser(t, "bob", nil)
	s.addGroup(t, "engineering", userDN("alice"))
	s.addGroup(t, "staff", groupDN("engineering"), userDN("bob"))
	return s
}

func tail(text string) string { return text[max(0, len(text)-4000):] }

func userDN(uid string) string { return "uid=" + uid + ",ou=people,dc=corp,dc=example" }
func groupDN(cn string) string { return "cn=" + cn + ",ou=groups,dc=corp,dc=example" }

func dialAdmin(t *testing.T, url, authority, dn, password string) *ldap.Conn {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		conn, err := ldap.DialURL(url, ldap.DialWithTLSConfig(tlsConfig(t, authority)))
		if err == nil {
			if err = conn.Bind(dn, password); err == nil {
				return conn
			}
			conn.Close()
		}
		if time.Now().After(deadline) {
			t.Fatalf("the directory did not start: %v", err)
		}
		wait, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		<-wait.Done()
		cancel()
	}
}

func (s *slapd) add(t *testing.T, dn string, attributes map[string][]string) {
	t.Helper()
	request := ldap.NewAddRequest(dn, nil)
	for name, values := range attributes {
		request.Attribute(name, values)
	}
	if err := s.admin.Add(request); err != nil {
		t.Fatalf("add %s: %v", dn, err)
	}
}

func (s *slapd) addUser(t *testing.T, uid string, more map[string][]string) {
	t.Helper()
	attributes := map[string][]string{
		"objectClass": {"inetOrgPerson"}, "uid": {uid}, "cn": {strings.ToUpper(uid[:1]) + uid[1:] + " Example"}, "sn": {"Example"},
		"mail": {uid + "@corp.example"}, "userPassword": {userPassword},
	}
	for name, values := range more {
		attributes[name] = values
	}
	s.add(t, userDN(uid), attributes)
}

func (s *slapd) addGroup(t *testing.T, cn string, members ...string) {
	t.Helper()
	s.add(t, groupDN(cn), map[string][]string{"objectClass": {"groupOfNames"}, "cn": {cn}, "member": members})
}

func (s *slapd) modify(t *testing.T, dn, attribute string, values ...string) {
	t.Helper()
	request := ldap.NewModifyRequest(dn, nil)
	request.Replace(attribute, values)
	if err := s.admin.Modify(request); err != nil {
		t.Fatalf("modify %s: %v", dn, err)
	}
}
