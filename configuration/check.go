package configuration

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/internal/clientaddress"
	"github.com/valetkey/valetkey/manage/api"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/declaration"
	"github.com/valetkey/valetkey/storage/record"
)

// reporter receives a problem with the value at a path such as clients[0].redirect_uris[1].
type reporter func(path, format string, args ...any)

// validate reports what would keep a server from starting.
func (c *Configuration) validate(report reporter) {
	if c.Issuer != "" {
		if err := oauth.CheckIssuer(c.Issuer); err != nil {
			report("issuer", "%v", err)
		}
	}
	if err := CheckDatabase(c.Database); err != nil && c.Database != "" {
		report("database", "%v", err)
	}
	if c.TLS != nil && (c.TLS.Certificate == "" || c.TLS.Key == "") {
		report("tls", "both certificate and key are required")
	}
	if len(c.MasterKeyCommand) > 0 && c.MasterKeyFile != "" {
		report("master_key_command", "master_key_file names the key too: only one of them can be set")
	}
	if len(c.PreviousMasterKeyCommand) > 0 && c.PreviousMasterKeyFile != "" {
		report("previous_master_key_command", "previous_master_key_file names the key too: only one of them can be set")
	}
	c.validateMutualTLS(report)
	for i, proxy := range c.TrustedProxies {
		if _, err := clientaddress.ParseNetwork(proxy); err != nil {
			report(fmt.Sprintf("trusted_proxies[%d]", i), "%v", err)
		}
	}
	if _, err := clientaddress.New(nil, c.ProxyHeader); err != nil {
		report("proxy_header", "%v", err)
	}
	switch c.ConsentOptionalDefault {
	case "", ConsentTicked, ConsentUnticked:
	default:
		report("consent_optional_default", "%q is neither %s nor %s", c.ConsentOptionalDefault, ConsentTicked, ConsentUnticked)
	}
	for i, network := range c.Outgoing.Networks {
		if _, err := clientaddress.ParseNetwork(network); err != nil {
			report(fmt.Sprintf("outgoing.networks[%d]", i), "%v", err)
		}
	}
	for i, network := range c.Outgoing.InsecureOutsiderNetworks {
		if _, err := clientaddress.ParseNetwork(network); err != nil {
			report(fmt.Sprintf("outgoing.insecure_outsider_networks[%d]", i), "%v", err)
		}
	}
	if d := time.Duration(c.Lifetimes.PushedAuthorizationRequest); d != 0 && (d < 5*time.Second || d >= 10*time.Minute) {
		report("lifetimes.pushed_authorization_request", "%s is not between 5s and 10m (RFC 9126, section 2.2)", d)
	}
	c.Registration.validate(report)
	c.Sandbox.validate(report)
	c.MetadataDocuments.validate(report)
	for i, mapping := range c.Claims {
		path := fmt.Sprintf("claims[%d]", i)
		if err := authserver.CheckExpression(mapping.Expression); mapping.Expression != "" && err != nil {
			report(path+".expression", "%v", err)
		} else if err := mapping.Check(); err != nil {
			report(path, "%v", err)
		}
	}
	for i, source := range c.ClaimSources {
		if err := source.Check(); err != nil {
			report(fmt.Sprintf("claim_sources[%d]", i), "%v", err)
		}
	}
	for i := range c.TrustedIssuers {
		if err := c.TrustedIssuers[i].Check(); err != nil {
			report(fmt.Sprintf("trusted_issuers[%d]", i), "%v", err)
		}
	}
	types := map[string]bool{}
	for i := range c.AuthorizationDetailsTypes {
		t := &c.AuthorizationDetailsTypes[i]
		if err := t.Check(); err != nil {
			report(fmt.Sprintf("authorization_details_types[%d]", i), "%v", err)
		} else if types[t.Type] {
			report(fmt.Sprintf("authorization_details_types[%d].type", i), "%q is declared twice", t.Type)
		}
		types[t.Type] = true
	}
	for i := range c.Clients {
		for j, name := range c.Clients[i].AuthorizationDetailsTypes {
			if !types[name] {
				report(fmt.Sprintf("clients[%d].authorization_details_types[%d]", i, j), "%q is not declared in authorization_details_types", name)
			}
		}
	}
	for i := range c.TokenExchange {
		if err := c.TokenExchange[i].Check(); err != nil {
			report(fmt.Sprintf("token_exchange[%d]", i), "%v", err)
		}
	}
	for i := range c.Clients {
		if c.Clients[i].FirstParty && !c.FirstPartyApplications {
			report(fmt.Sprintf("clients[%d].first_party", i), "requires first_party_applications: true")
		}
	}
	c.validateHooks(report)
	c.validateMail(report)
	c.validatePasskeys(report)
	c.validateTheme(report)
	if n := c.MinimumPasswordLength; n != 0 && (n < identity.MinPasswordRunes || n > 64) {
		report("minimum_password_length", "%d is not between %d and 64 (NIST SP 800-63B-4, section 3.1.1.2)", n, identity.MinPasswordRunes)
	}
	c.SignIn.validate(report)
	c.Recovery.validate(report)
	if c.Recovery.MailDelay > 0 && c.PasswordSignIn == PasswordSignInOff {
		report("recovery.mail_delay", "sets a new password, which is of no use with password_sign_in: off")
	}
	c.Audit.validate(report)
	if s := c.BreachedPasswordService; s != "" {
		if u, err := url.Parse(s); err != nil || !strings.HasSuffix(u.Path, "/") || u.RawQuery != "" || u.User != nil || u.Scheme != "https" && !(u.Scheme == "http" && oauth.IsLoopbackHost(u.Hostname())) {
			report("breached_password_service", "%q is not the address of a range API: use an https URL that ends with a slash, such as https://api.pwnedpasswords.com/range/", s)
		}
	}
	c.validateUpstream(report)
	oneOf(report, "log.level", c.Log.Level, "debug", "info", "warn", "error")
	oneOf(report, "log.format", c.Log.Format, "text", "json")
	c.Management.validate(c.Issuer, report)
	c.Telemetry.validate(report)
	c.Declarations.validate(report)
	c.validateProfiles(report)
}

// CheckDatabase reports why a server cannot use a database URL, as far as its scheme shows.
// The error never contains the URL, which may contain a password.
func CheckDatabase(database string) error {
	for _, scheme := range [...]string{"sqlite:", "postgres://", "postgresql://"} {
		if strings.HasPrefix(database, scheme) && len(database) > len(scheme) {
			return nil
		}
	}
	return errors.New("must begin with sqlite:, postgres:// or postgresql://")
}

func oneOf(report reporter, path, value string, values ...string) {
	if value != "" && !slices.Contains(values, value) {
		report(path, "%q is not a valid value: use one of %s", value, strings.Join(values, ", "))
	}
}

// Validate reports everything in the declarations that must not be stored, except for
// references to undeclared names: those records may be stored already.
func (d *Declarations) Validate() error {
	return collectProblems(d.validate)
}

func collectProblems(check func(reporter)) error {
	var problems []error
	check(func(path, format string, args ...any) {
		problems = append(problems, fmt.Errorf("%s: %s", path, fmt.Sprintf(format, args...)))
	})
	return errors.Join(problems...)
}

func (d *Declarations) validate(report reporter) {
	scopes := map[string]int{}
	for i, s := range d.Scopes {
		path := fmt.Sprintf("scopes[%d]", i)
		if parsed, err := oauth.ParseScope(s.Name); err != nil || len(parsed) != 1 {
			report(path+".name", "%q is not a valid scope value (RFC 6749, section 3.3)", s.Name)
		}
		if ofManagement(s.Name) {
			report(path+".name", "the scope %q belongs to the management API of the server: choose another name", s.Name)
		}
		if first(scopes, s.Name, i) != i {
			report(path+".name", "the scope %q is declared twice", s.Name)
		}
		for j, claim := range s.Claims {
			if err := oauth.CheckClaimName(claim); err != nil {
				report(fmt.Sprintf("%s.claims[%d]", path, j), "%q: %v", claim, err)
			}
		}
	}
	for i, r := range d.Resources {
		path := fmt.Sprintf("resources[%d]", i)
		u, err := url.Parse(r.Identifier)
		if err != nil || !u.IsAbs() || strings.Contains(r.Identifier, "#") {
			report(path+".identifier", "%q must be an absolute URI without a fragment (RFC 8707, section 2)", r.Identifier)
		}
		for _, before := range d.Resources[:i] {
			if oauth.SameResource(before.Identifier, r.Identifier) {
				report(path+".identifier", "the resource %q is declared twice: the case of the host, the default port and the path / are ignored (RFC 3986, section 6.2.3)", r.Identifier)
				break
			}
		}
		oneOf(report, path+".access_token_format", r.AccessTokenFormat, record.AccessTokenJWT, record.AccessTokenOpaque)
		if r.StatusList && r.AccessTokenFormat == record.AccessTokenOpaque {
			report(path+".status_list", "not supported for opaque tokens: their status is found by introspection")
		}
		if err := record.CheckOwnLifetime(r.AccessTokenLifetime); err != nil {
			report(path+".access_token_lifetime", "%v", err)
		}
		for j, claim := range r.AccessTokenClaims {
			if err := authserver.CheckAccessTokenClaim(claim); err != nil {
				report(fmt.Sprintf("%s.access_token_claims[%d]", path, j), "%q: %v", claim, err)
			}
		}
	}
	d.validateClients(report)
	d.validateUsers(report)
}

// validClientID reports whether a client_id has 1 to 255 printable ASCII characters (RFC 6749,
// appendix A.1), without spaces.
func validClientID(id string) bool {
	return id != "" && len(id) <= 255 && !strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' })
}

// first returns the index at which a name was first used, which is place if it is new.
func first(places map[string]int, name string, place int) int {
	if at, ok := places[name]; ok {
		return at
	}
	places[name] = place
	return place
}

func (d *Declarations) validateClients(report reporter) {
	clients := map[string]int{}
	for i := range d.Clients {
		c := &d.Clients[i]
		path := fmt.Sprintf("clients[%d]", i)
		switch {
		case c.ID == "":
			report(path, "client_id is required")
		case !validClientID(c.ID) || strings.HasPrefix(c.ID, "https://"):
			report(path+".client_id", "%q is not a valid client_id: use 1 to 255 printable ASCII characters without spaces, and not an https URL", c.ID)
		case c.ID == api.CommandLineClientID:
			report(path+".client_id", "the client %q belongs to the server: choose another client_id", c.ID)
		case first(clients, c.ID, i) != i:
			report(path+".client_id", "the client %q is declared twice", c.ID)
		}
		d.reportClient(report, i, authserver.CheckClient(c.record()))
	}
}

// reportClient reports problems of members that a client names. Missing members may be stored
// already: the merged record is checked again.
func (d *Declarations) reportClient(report reporter, i int, problems []authserver.ClientProblem) {
	c, path := &d.Clients[i], fmt.Sprintf("clients[%d]", i)
	members, err := d.named.members(declaration.KindClient, c.ID, c)
	if err != nil {
		report(path, "%v", err)
	}
	for _, problem := range problems {
		if name, _, _ := strings.Cut(problem.Member, "["); members[name] != nil {
			report(path+"."+problem.Member, "%s", problem.Message)
		}
	}
}

// Incomplete reports required members, such as redirect_uris, that clients do not have. Such
// a client is valid if it is stored already.
func (d *Declarations) Incomplete() error {
	return collectProblems(func(report reporter) {
		for i := range d.Clients {
			for _, problem := range authserver.CheckClient(d.Clients[i].record()) {
				report(fmt.Sprintf("clients[%d]", i), "%s", problem)
			}
		}
	})
}

func (d *Declarations) validateUsers(report reporter) {
	owners, subjects := map[string]string{}, map[string]int{}
	for i := range d.Users {
		u := &d.Users[i]
		path := fmt.Sprintf("users[%d]", i)
		if u.Subject != "" && first(subjects, u.Subject, i) != i {
			report(path+".sub", "the sub %q is used twice", u.Subject)
		}
		if u.Password != "" && u.PasswordHash != "" {
			report(path+".password_hash", "set either password or password_hash, not both")
		}
		if len(u.Password) > identity.MaxPasswordBytes {
			report(path+".password", "%v", identity.ErrPasswordTooLong)
		}
		for name := range u.Claims {
			if err := checkCustomClaim(name); err != nil {
				report(path+".claims."+name, "%v", err)
			}
		}
		claims, err := u.claims()
		if err != nil {
			report(path, "%v", err)
			continue
		}
		stored := identity.User{ID: cmp.Or(u.Subject, "new"), Username: u.Username, PasswordHash: u.PasswordHash, Claims: claims}
		if err := stored.Check(); err != nil {
			report(path, "%v", err)
		}
		for _, identifier := range stored.Identifiers() {
			if owner, taken := owners[identifier]; taken {
				report(path, "%q already identifies %s: usernames and email addresses must be unique", identifier, owner)
			}
			owners[identifier] = path
		}
	}
}

// checkCustomClaim refuses claims that have a member or a meaning of their own.
func checkCustomClaim(name string) error {
	if err := oauth.CheckClaimName(name); err != nil {
		return err
	}
	switch name {
	case "preferred_username", "updated_at":
		return errors.New("the server sets this claim from the user's record")
	}
	if isStandardClaim(name) {
		return errors.New("this is a standard claim: write it at the same level as username, not under claims")
	}
	return nil
}

// checkReferences reports references to records that are neither declared nor stored.
func (d *Declarations) checkReferences(stored *Declarations, report reporter) {
	scopes := oauth.Scope{oauth.ScopeOpenID, oauth.ScopeProfile, oauth.ScopeEmail, oauth.ScopeAddress, oauth.ScopePhone, oauth.ScopeOfflineAccess}
	for _, s := range slices.Concat(d.Scopes, stored.Scopes) {
		scopes = append(scopes, s.Name)
	}
	var resources, clients []string
	for _, r := range slices.Concat(d.Resources, stored.Resources) {
		resources = append(resources, r.Identifier)
	}
	for _, c := range slices.Concat(d.Clients, stored.Clients) {
		clients = append(clients, c.ID)
	}
	for i, r := range d.Resources {
		for j, scope := range r.Scopes {
			if !slices.Contains(scopes, scope) {
				report(fmt.Sprintf("resources[%d].scopes[%d]", i, j), "the scope %q is not declared", scope)
			}
		}
		for j, id := range r.IntrospectionClients {
			if !slices.Contains(clients, id) {
				report(fmt.Sprintf("resources[%d].introspection_clients[%d]", i, j), "the client %q is not declared", id)
			}
		}
	}
	for i, c := range d.Clients {
		asked, err := oauth.ParseScope(c.Scope)
		if err != nil {
			continue // reported by validate
		}
		for _, scope := range asked.Without(scopes) {
			if ofManagement(scope) {
				continue
			}
			report(fmt.Sprintf("clients[%d].scope", i), "the scope %q is not declared", scope)
		}
		for j, r := range c.Resources {
			if !slices.Contains(resources, r) {
				report(fmt.Sprintf("clients[%d].resources[%d]", i, j), "the resource %q is not declared", r)
			}
		}
	}
}
