package directory

import (
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/go-ldap/ldap/v3"

	"github.com/valetkey/valetkey/identity/admission"
	"github.com/valetkey/valetkey/storage/record"
)

// The values of Config.Type.
const (
	TypeLDAP            = "ldap"
	TypeActiveDirectory = "active_directory"
)

// The values of Config.Groups.
const (
	GroupsNested = "nested"
	GroupsDirect = "direct"
	GroupsOff    = "off"
)

// Config is a directory as an operator configures it.
type Config struct {
	// ID names the directory in the log and in the accounts of its users. It must not change.
	ID string `json:"id"`
	// Name is the name on pages.
	Name string `json:"name,omitempty"`
	// Type is TypeLDAP, the default, or TypeActiveDirectory. It sets the defaults of attributes and
	// filters.
	Type string `json:"type,omitempty"`
	// URLs are the servers of the directory, which have the same contents. The next one is used if one
	// does not respond. With ldap, the connection is encrypted with StartTLS; with ldaps, from its
	// beginning.
	URLs []string `json:"urls"`
	// InsecurePlaintext sends passwords over ldap URLs without encryption. Everybody on the network can
	// read them.
	InsecurePlaintext bool `json:"insecure_plaintext,omitempty"`
	// CertificateAuthorities is a PEM file that replaces the certificate authorities of the system.
	CertificateAuthorities string `json:"certificate_authorities,omitempty"`
	// BindDN and BindPassword are those of the service account that searches. BindPasswordFile contains
	// the password.
	BindDN           string `json:"bind_dn,omitempty"`
	BindPassword     string `json:"bind_password,omitempty"`
	BindPasswordFile string `json:"bind_password_file,omitempty"`
	// UserBind is for directories without a service account: the DN, or the user principal name, with
	// which the user binds. {username} is the name of the user.
	UserBind string `json:"user_bind,omitempty"`
	// Base is the entry below which users and groups are searched. UserBase and GroupBase replace it
	// for users and for groups.
	Base      string `json:"base"`
	UserBase  string `json:"user_base,omitempty"`
	GroupBase string `json:"group_base,omitempty"`
	// UserFilter finds a user. {identifier} is what was typed, {username} the part without the domain.
	UserFilter string `json:"user_filter,omitempty"`
	// SubjectAttribute identifies a user for ever. The default is entryUUID, or objectGUID.
	SubjectAttribute string `json:"subject_attribute,omitempty"`
	// Attributes maps claims to attributes. A name that ends in [] is a list of all values.
	Attributes map[string]string `json:"attributes,omitempty"`
	// Groups is GroupsNested, the default, GroupsDirect or GroupsOff. GroupFilter limits what counts as
	// a group, GroupMember is the attribute with its members, and GroupName the one with its name.
	Groups      string `json:"groups,omitempty"`
	GroupFilter string `json:"group_filter,omitempty"`
	GroupMember string `json:"group_member,omitempty"`
	GroupName   string `json:"group_name,omitempty"`
	// Domains are the domains of identifiers that belong to this directory: example.com for
	// user@example.com, and EXAMPLE for EXAMPLE\user. A directory without domains is asked about
	// every identifier that belongs to no other one.
	Domains []string `json:"domains,omitempty"`
	// Rule decides who may sign in, who gets an account, and what the account has from the directory
	// (package admission). Without it, only users who have linked their account can sign in.
	Rule string `json:"rule,omitempty"`
	// TrustEmail trusts the directory's addresses of its users.
	TrustEmail bool `json:"trust_email,omitempty"`
	// Timeout limits a sign-in at the directory; the default is 5 seconds.
	Timeout record.Duration `json:"timeout,omitzero"`
	// Connections limits the connections of each kind: for searches and for the passwords of users. The
	// default is 8.
	Connections int `json:"connections,omitempty"`
	// FailedAttempts is how many wrong passwords for one user, from places that the user has not signed
	// in from, reach the directory within FailedAttemptsWindow. It must be less than what locks the
	// account there. The defaults are 5 and 30 minutes.
	FailedAttempts       int             `json:"failed_attempts,omitempty"`
	FailedAttemptsWindow record.Duration `json:"failed_attempts_window,omitzero"`
	// CheckInterval is how often users with sessions are looked up: those who are disabled or have
	// vanished lose what they have. The default is 15 minutes.
	CheckInterval record.Duration `json:"check_interval,omitzero"`
	// Disabled refuses sign-ins at the directory. Links remain.
	Disabled bool `json:"disabled,omitempty"`
}

// Format keeps the password out of logs and messages.
func (c Config) Format(s fmt.State, _ rune) { fmt.Fprintf(s, "[directory %q]", c.ID) }

// LogValue keeps the password out of structured logs.
func (c Config) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(c)) }

// Expressions are compiled when they are first needed, because a program without directories never
// does.
var (
	validID        = compiled(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)
	validDomain    = compiled(`^([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?\.)*[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?$`)
	validAttribute = compiled(`^[A-Za-z][A-Za-z0-9-]*$`)
)

func compiled(expression string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expression) })
}

const (
	defaultTimeout     = 5 * time.Second
	maxTimeout         = 30 * time.Second
	defaultConnections = 8
	maxConnections     = 256
)

// complete returns the directory with the defaults.
func (c Config) complete() Config {
	def := func(member *string, ldap, activeDirectory string) {
		if *member != "" {
			return
		}
		*member = ldap
		if c.Type == TypeActiveDirectory {
			*member = activeDirectory
		}
	}
	def(&c.Name, c.ID, c.ID)
	def(&c.Groups, GroupsNested, GroupsNested)
	def(&c.UserBase, c.Base, c.Base)
	def(&c.GroupBase, c.Base, c.Base)
	def(&c.UserFilter, "(&(objectClass=person)(|(uid={username})(mail={identifier})))",
		"(&(objectCategory=person)(objectClass=user)(|(sAMAccountName={username})(userPrincipalName={identifier})))")
	def(&c.SubjectAttribute, "entryUUID", "objectGUID")
	def(&c.GroupFilter, "(|(objectClass=groupOfNames)(objectClass=groupOfUniqueNames))", "(objectClass=group)")
	def(&c.GroupMember, "member", "member")
	def(&c.GroupName, "cn", "sAMAccountName")
	attributes := map[string]string{"name": "cn", "given_name": "givenName", "family_name": "sn", "email": "mail", "preferred_username": "uid"}
	if c.Type == TypeActiveDirectory {
		attributes["name"], attributes["preferred_username"] = "displayName", "sAMAccountName"
	}
	for claim, attribute := range c.Attributes {
		attributes[claim] = attribute
	}
	c.Attributes = attributes
	if c.Timeout <= 0 {
		c.Timeout = record.Duration(defaultTimeout)
	}
	if c.Connections <= 0 {
		c.Connections = defaultConnections
	}
	if c.FailedAttempts <= 0 {
		c.FailedAttempts = 5
	}
	if c.FailedAttemptsWindow <= 0 {
		c.FailedAttemptsWindow = record.Duration(30 * time.Minute)
	}
	if c.CheckInterval <= 0 {
		c.CheckInterval = record.Duration(15 * time.Minute)
	}
	return c
}

// issuer is ExternalUser.Issuer of the directory's users.
func (c *Config) issuer() string { return "directory:" + c.ID }

// service reports whether a service account searches.
func (c *Config) service() bool { return c.BindDN != "" }

// Check returns the first reason why the directory cannot be used. It reads no files.
func (c Config) Check() error {
	if !validID().MatchString(c.ID) {
		return errors.New("id: use 1 to 32 lower-case letters, digits and hyphens")
	}
	switch c.Type {
	case "", TypeLDAP, TypeActiveDirectory:
	default:
		return fmt.Errorf("type: %q is not one of %s and %s", c.Type, TypeLDAP, TypeActiveDirectory)
	}
	if err := c.checkURLs(); err != nil {
		return err
	}
	if c.BindPassword != "" && c.BindPasswordFile != "" {
		return errors.New("set either bind_password or bind_password_file")
	}
	switch password := c.BindPassword != "" || c.BindPasswordFile != ""; {
	case c.service() && !password:
		return errors.New("bind_password_file is required: a bind without a password proves nothing (RFC 4513, section 5.1.2)")
	case !c.service() && password:
		return errors.New("bind_dn is required with bind_password")
	case !c.service() && c.UserBind == "":
		return errors.New("bind_dn is required: the account that searches for users; or user_bind, with which each user binds")
	case c.service() && c.UserBind != "":
		return errors.New("set either bind_dn or user_bind")
	}
	if c.UserBind != "" && !strings.Contains(c.UserBind, "{username}") {
		return errors.New("user_bind: {username} is missing, such as in uid={username},ou=people,dc=example,dc=com or in {username}@ad.example.com")
	}
	c = c.complete()
	for _, dn := range []struct{ member, value string }{{"base", c.Base}, {"user_base", c.UserBase}, {"group_base", c.GroupBase}} {
		if dn.value == "" {
			return errors.New("base is required: the entry below which users and groups are, such as dc=example,dc=com")
		}
		if _, err := ldap.ParseDN(dn.value); err != nil {
			return fmt.Errorf("%s: %q is not a distinguished name", dn.member, dn.value)
		}
	}
	if !strings.Contains(c.UserFilter, "{username}") && !strings.Contains(c.UserFilter, "{identifier}") {
		return errors.New("user_filter: {username} or {identifier} is missing")
	}
	if _, err := ldap.CompileFilter(fill(c.UserFilter, "a", "a", ldap.EscapeFilter)); err != nil {
		return fmt.Errorf("user_filter: %q is not a filter (RFC 4515)", c.UserFilter)
	}
	if _, err := ldap.CompileFilter(c.GroupFilter); err != nil {
		return fmt.Errorf("group_filter: %q is not a filter (RFC 4515)", c.GroupFilter)
	}
	for _, attribute := range []struct{ member, value string }{{"subject_attribute", c.SubjectAttribute}, {"group_member", c.GroupMember}, {"group_name", c.GroupName}} {
		if !validAttribute().MatchString(attribute.value) {
			return fmt.Errorf("%s: %q is not the name of an attribute", attribute.member, attribute.value)
		}
	}
	for claim, attribute := range c.Attributes {
		if !validAttribute().MatchString(strings.TrimSuffix(attribute, "[]")) {
			return fmt.Errorf("attributes: %s: %q is not the name of an attribute", claim, attribute)
		}
	}
	switch c.Groups {
	case GroupsNested, GroupsDirect, GroupsOff:
	default:
		return fmt.Errorf("groups: %q is not one of %s, %s and %s", c.Groups, GroupsNested, GroupsDirect, GroupsOff)
	}
	for i, domain := range c.Domains {
		if !validDomain().MatchString(domain) {
			return fmt.Errorf("domains[%d]: %q is neither a domain such as example.com nor a name such as EXAMPLE", i, domain)
		}
	}
	if _, err := admission.Compile(c.Rule); err != nil {
		return fmt.Errorf("rule: %w", err)
	}
	if time.Duration(c.Timeout) > maxTimeout {
		return fmt.Errorf("timeout: at most %v; users wait for it", maxTimeout)
	}
	if c.Connections > maxConnections {
		return fmt.Errorf("connections: at most %d", maxConnections)
	}
	if time.Duration(c.CheckInterval) < time.Minute {
		return errors.New("check_interval: at least 1m")
	}
	return nil
}

func (c *Config) checkURLs() error {
	if len(c.URLs) == 0 {
		return errors.New("urls is required, such as ldaps://dc1.example.com")
	}
	for i, address := range c.URLs {
		u, err := url.Parse(address)
		if err != nil || u.Hostname() == "" || u.Scheme != "ldap" && u.Scheme != "ldaps" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
			return fmt.Errorf("urls[%d]: %q is not an ldap or ldaps URL with a host only", i, address)
		}
		if c.InsecurePlaintext && u.Scheme == "ldaps" {
			return fmt.Errorf("urls[%d]: insecure_plaintext is for ldap URLs", i)
		}
	}
	return nil
}

// server is one of the servers of a directory.
type server struct {
	address, host string
	// tls and startTLS say how the connection is encrypted.
	tls, startTLS bool
}

func (c *Config) servers() []server {
	var servers []server
	for _, address := range c.URLs {
		u, err := url.Parse(address)
		if err != nil { // Check has refused it
			continue
		}
		s := server{host: u.Hostname(), tls: u.Scheme == "ldaps"}
		s.startTLS = !s.tls && !c.InsecurePlaintext
		port := u.Port()
		switch {
		case port != "":
		case s.tls:
			port = "636"
		default:
			port = "389"
		}
		s.address = net.JoinHostPort(s.host, port)
		servers = append(servers, s)
	}
	return servers
}

// CheckFiles returns the first reason why a file that the directory names cannot be used.
func (c Config) CheckFiles() error {
	if _, err := c.password(); err != nil {
		return err
	}
	_, err := c.authorities()
	return err
}

const maxFileBytes = 1 << 20

func readFile(member, path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err == nil && info.Size() > maxFileBytes {
		err = fmt.Errorf("%s is larger than 1 MiB", path)
	}
	var content []byte
	if err == nil {
		content, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", member, err)
	}
	return content, nil
}

// password returns the password of the service account; "" if there is none.
func (c *Config) password() (string, error) {
	if c.BindPasswordFile == "" {
		return c.BindPassword, nil
	}
	content, err := readFile("bind_password_file", c.BindPasswordFile)
	if err != nil {
		return "", err
	}
	password := strings.TrimRight(string(content), "\r\n")
	if password == "" || strings.ContainsAny(password, "\r\n") {
		return "", fmt.Errorf("bind_password_file: %s must contain one line with the password", c.BindPasswordFile)
	}
	return password, nil
}

// authorities returns the certificate authorities; nil for those of the system.
func (c *Config) authorities() (*x509.CertPool, error) {
	if c.CertificateAuthorities == "" {
		return nil, nil
	}
	content, err := readFile("certificate_authorities", c.CertificateAuthorities)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(content) {
		return nil, fmt.Errorf("certificate_authorities: %s contains no certificate in PEM format", c.CertificateAuthorities)
	}
	return pool, nil
}

// CheckAll reports every problem of a list of directories, with its index.
func CheckAll(directories []Config, report func(index int, err error)) {
	ids, domains := map[string]bool{}, map[string]string{}
	for i, c := range directories {
		if err := c.Check(); err != nil {
			report(i, err)
			continue
		}
		if ids[c.ID] {
			report(i, fmt.Errorf("id: %q is used twice", c.ID))
		}
		ids[c.ID] = true
		for _, domain := range c.Domains {
			domain = strings.ToLower(domain)
			if other := domains[domain]; other != "" {
				report(i, fmt.Errorf("domains: %q belongs to %q too", domain, other))
			}
			domains[domain] = c.ID
		}
	}
}
