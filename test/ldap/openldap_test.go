package ldap

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/identity/directory"
	"github.com/valetkey/valetkey/internal/person"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
	"github.com/valetkey/valetkey/storage/record"
)

const callback = "http://127.0.0.1:9/callback" // nothing listens here: the browser stops before it

// withApp adds a client for a group, and the scope groups.
func withApp(c *configuration.Configuration) {
	c.Scopes = []record.Scope{{Name: "groups", Description: "See your groups", Claims: []string{"groups"}}}
	for id, allowed := range map[string][]string{"app": nil, "wiki": {"staff"}} {
		c.Clients = append(c.Clients, configuration.Client{ID: id, ClientMetadata: oauth.ClientMetadata{
			ClientName: id, RedirectURIs: []string{callback}, TokenEndpointAuthMethod: oauth.AuthMethodNone, Scope: "openid profile email groups",
		}, ClientSettings: record.ClientSettings{SkipConsent: true, AllowedGroups: allowed}})
	}
}

// authorize signs a user in to a client, and returns the claims of the ID token and of UserInfo.
func authorize(t *testing.T, issuer, id, username, password string) (claims map[string]any, amr []string, err error) {
	t.Helper()
	c, err := client.Discover(t.Context(), client.Config{Issuer: issuer, ClientID: id, RedirectURI: callback, Scopes: []string{"openid", "profile", "email", "groups"}})
	if err != nil {
		t.Fatal(err)
	}
	address, transaction, err := c.AuthorizationURL(t.Context(), client.AuthorizationOptions{})
	if err != nil {
		t.Fatal(err)
	}
	response, err := person.New(username, password).Visit(address, callback)
	if err != nil {
		return nil, nil, err
	}
	tokens, err := c.Callback(t.Context(), transaction, response.Query())
	if err != nil {
		return nil, nil, err
	}
	info, err := c.UserInfo(t.Context(), tokens)
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, info.Claims), tokens.Identity.AMR, nil
}

func TestGroupsAndClaims(t *testing.T) {
	s := startSlapd(t)
	// A cycle: everyone in b is in a, and everyone in a is in b.
	s.addGroup(t, "a", groupDN("b"), userDN("alice"))
	s.addGroup(t, "b", groupDN("a"))
	issuer := serve(t, []directory.Config{openLDAP(s)}, withApp)
	claims, amr, err := authorize(t, issuer, "wiki", "alice", userPassword)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(claims["groups"]); got != "[a b engineering staff]" {
		t.Errorf("groups %v", got)
	}
	if claims["name"] != "Alice Example" || claims["preferred_username"] != "alice" || !slices.Equal(amr, []string{"pwd"}) {
		t.Errorf("claims %v, amr %v", claims, amr)
	}
	sub := claims["sub"]
	// What the directory says is refreshed at the next sign-in. A new DN changes nothing.
	s.modify(t, userDN("alice"), "cn", "Alice Married")
	if err := s.admin.ModifyDN(ldap.NewModifyDNRequest(userDN("alice"), "uid=alicia", true, "")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"engineering", "a"} {
		s.modify(t, groupDN(name), "member", userDN("alicia"))
	}
	s.modify(t, groupDN("staff"), "member", userDN("bob"))
	claims, _, err = authorize(t, issuer, "app", "alicia", userPassword)
	if err != nil {
		t.Fatal(err)
	}
	if claims["sub"] != sub || claims["name"] != "Alice Married" || strings.Contains(fmt.Sprint(claims["groups"]), "staff") {
		t.Errorf("after the change: %v", claims)
	}
	if _, _, err := authorize(t, issuer, "wiki", "alicia", userPassword); err == nil {
		t.Error("a user who left the group gets to its client")
	}
	// A user who was deleted and created again is another one.
	if err := s.admin.Del(ldap.NewDelRequest(userDN("alicia"), nil)); err != nil {
		t.Fatal(err)
	}
	s.addUser(t, "alicia", nil)
	claims, _, err = authorize(t, issuer, "app", "alicia", userPassword)
	if err != nil {
		t.Fatal(err)
	}
	if claims["sub"] == sub {
		t.Error("the new user has the account of the former one")
	}
}

// The server sends 500 entries at most, so more need paging (RFC 2696).
func TestThousandsOfGroups(t *testing.T) {
	s := startSlapd(t)
	for i := range 2000 {
		s.addGroup(t, fmt.Sprintf("g%04d", i), userDN("bob"))
	}
	config := openLDAP(s)
	config.Rule = `{groups: filter(claims.groups, # startsWith "g199")}`
	config.Timeout = record.Duration(20 * time.Second)
	claims, _, err := authorize(t, serve(t, []directory.Config{config}, withApp), "app", "bob", userPassword)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(claims["groups"]); got != "[g1990 g1991 g1992 g1993 g1994 g1995 g1996 g1997 g1998 g1999]" {
		t.Errorf("groups %v", got)
	}
}

// Users whom the directory does not let in are refused, whatever their password.
func TestAccountStates(t *testing.T) {
	s := startSlapd(t)
	yesterday := fmt.Sprint(time.Now().Unix()/86400 - 1)
	s.addUser(t, "expired", map[string][]string{"objectClass": {"inetOrgPerson", "shadowAccount"}, "shadowExpire": {yesterday}})
	s.addUser(t, "locked", nil)
	s.modify(t, userDN("locked"), "pwdAccountLockedTime", "000001010000Z")
	s.addUser(t, "reset", nil)
	s.modify(t, userDN("reset"), "pwdReset", "TRUE")
	issuer := serve(t, []directory.Config{openLDAP(s)}, nil)
	for _, name := range []string{"expired", "locked", "reset"} {
		status, _, body := newBrowser(t, issuer).signIn(name, userPassword)
		if status != http.StatusForbidden {
			t.Errorf("%s: status %d", name, status)
		}
		if strings.Contains(body, "expired or must be changed") != (name == "reset") {
			t.Errorf("%s: the page says nothing, or too much, about the password", name)
		}
	}
	if n := s.binds(userDN("locked")); n > 0 {
		t.Errorf("%d binds of a locked account", n)
	}
}

// A guesser gets five passwords to the directory, whatever names the user has, and the page says the
// same about a name that the directory does not have.
func TestGuessersAreStoppedBeforeTheBind(t *testing.T) {
	s := startSlapd(t)
	config := openLDAP(s)
	config.FailedAttempts = 5
	config.Domains = nil
	issuer := serve(t, []directory.Config{config}, nil)
	var statuses [2][]int
	for i := range 6 {
		for k, name := range []string{"alice", "nobody"} {
			if i%2 == 1 {
				name = strings.ToUpper(name)
			}
			status, _, _ := newBrowser(t, issuer).signIn(name, fmt.Sprint("guess ", i))
			statuses[k] = append(statuses[k], status)
		}
	}
	if !slices.Equal(statuses[0], statuses[1]) || statuses[0][5] != http.StatusTooManyRequests {
		t.Errorf("statuses of a known name %v, of an unknown one %v", statuses[0], statuses[1])
	}
	for range 4 { // by another name of the user
		newBrowser(t, issuer).signIn("alice@corp.example", "guess")
	}
	if n := s.binds(userDN("alice")); n == 0 || n > 5 {
		t.Errorf("%d binds", n)
	}
	if !signedIn(t, issuer, "bob", userPassword) {
		t.Error("another user is locked out")
	}
}

func TestFailedSignInsTakeTheSameTime(t *testing.T) {
	s := startSlapd(t)
	issuer := serve(t, []directory.Config{openLDAP(s)}, nil)
	for _, name := range []string{"alice", "nobody", "carol"} {
		began := time.Now()
		newBrowser(t, issuer).signIn(name, "wrong")
		if took := time.Since(began); took < 500*time.Millisecond {
			t.Errorf("%s: %v", name, took)
		}
	}
}

// A local user and a user of the directory with the same name are two people.
func TestSameName(t *testing.T) {
	s := startSlapd(t)
	issuer := serve(t, []directory.Config{openLDAP(s)}, func(c *configuration.Configuration) {
		withApp(c)
		c.Users = []configuration.User{{Username: "alice", Password: "the local password of alice"}}
	})
	local, _, err := authorize(t, issuer, "app", "alice", "the local password of alice")
	if err != nil {
		t.Fatal(err)
	}
	theirs, _, err := authorize(t, issuer, "app", "alice", userPassword)
	if err != nil {
		t.Fatal(err)
	}
	if local["sub"] == theirs["sub"] {
		t.Error("the directory's password opens the local account")
	}
}

func TestSeveralDirectories(t *testing.T) {
	first, second := startSlapd(t), startSlapd(t)
	second.addUser(t, "zoe", nil)
	a, b := openLDAP(first), openLDAP(second)
	a.Domains = []string{"first.example", "FIRST"}
	b.ID, b.Domains = "second", []string{"second.example", "SECOND"}
	b.Rule = `"engineering" in claims.groups ? true : "Only engineers may sign in."`
	issuer := serve(t, []directory.Config{a, b}, nil)
	for identifier, want := range map[string]bool{
		"bob@first.example": true, `FIRST\bob`: true, "bob": false, "zoe@first.example": false, "alice@second.example": true, `second\alice`: true,
	} {
		if got := signedIn(t, issuer, identifier, userPassword); got != want {
			t.Errorf("%q: signed in: %v", identifier, got)
		}
	}
	status, _, body := newBrowser(t, issuer).signIn("zoe@second.example", userPassword)
	if status != http.StatusForbidden || !strings.Contains(body, "Only engineers may sign in.") || !strings.Contains(body, "help@corp.example") {
		t.Errorf("refused by the rule: %d", status)
	}
}

// A directory that is down, or that accepts connections and says nothing, keeps no local user out, and
// not every sign-in waits for it.
func TestUnavailable(t *testing.T) {
	s := startSlapd(t)
	hanging, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer hanging.Close()
	for name, address := range map[string]string{"down": fmt.Sprintf("ldap://127.0.0.1:%d", freePort(t)), "hanging": "ldap://" + hanging.Addr().String()} {
		t.Run(name, func(t *testing.T) {
			config := openLDAP(s)
			config.URLs, config.Timeout = []string{address}, record.Duration(4*time.Second)
			issuer := serve(t, []directory.Config{config}, nil)
			status, _, body := newBrowser(t, issuer).signIn("alice", userPassword)
			if status != http.StatusServiceUnavailable || !strings.Contains(body, "is not available") {
				t.Errorf("status %d", status)
			}
			began := time.Now()
			newBrowser(t, issuer).signIn("bob", userPassword)
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("the second sign-in waited %v", took)
			}
			if !signedIn(t, issuer, "carol", userPassword+" local") {
				t.Error("the local user cannot sign in")
			}
			if _, _, body := newBrowser(t, issuer).get("/readyz"); !strings.Contains(body, "directories: 1 of 1 do not respond") {
				t.Errorf("readyz: %s", body)
			}
			config.URLs = append(config.URLs, s.plain)
			config.Timeout = record.Duration(3 * time.Second)
			if !signedIn(t, serve(t, []directory.Config{config}, nil), "alice", userPassword) {
				t.Error("the second server of the directory is not used")
			}
		})
	}
}

// Without a service account, users bind themselves.
func TestUserBind(t *testing.T) {
	s := startSlapd(t)
	config := openLDAP(s)
	config.BindDN, config.BindPassword, config.UserBind = "", "", "uid={username},ou=people,dc=corp,dc=example"
	config.Groups, config.Rule = directory.GroupsOff, "true"
	issuer := serve(t, []directory.Config{config}, nil)
	for identifier, want := range map[string]bool{"alice": true, "ALICE": true, "alice,ou=people": false, "bob,ou=people,dc=corp,dc=example+uid=alice": false} {
		if got := signedIn(t, issuer, identifier, userPassword); got != want {
			t.Errorf("%q: signed in: %v", identifier, got)
		}
	}
}

// The account page of a user of a directory: the password is proved there, and is changed elsewhere.
func TestAccountPage(t *testing.T) {
	s := startSlapd(t)
	issuer := serve(t, []directory.Config{openLDAP(s)}, nil)
	b := newBrowser(t, issuer)
	if status, _, _ := b.signIn("alice", userPassword); status != http.StatusSeeOther {
		t.Fatalf("sign in: %d", status)
	}
	if _, _, body := b.get("/account/password"); !strings.Contains(body, "It cannot be changed here.") || strings.Contains(body, `name="new"`) {
		t.Error("the page for the password does not say that it is changed elsewhere")
	}
	if _, _, body := b.get("/account/linked"); !strings.Contains(body, "Example Corp") {
		t.Error("the directory is not among the linked accounts")
	}
	for password, want := range map[string]int{"wrong": http.StatusForbidden, "": http.StatusForbidden, userPassword: http.StatusSeeOther} {
		status, _, _ := b.post("/account/confirm", url.Values{"password": {password}, "return": {"/account/email"}})
		if status != want {
			t.Errorf("confirm with %q: %d", password, status)
		}
	}
	// carol links her account with bob of the directory, and can then sign in with either password.
	c := newBrowser(t, issuer)
	c.signIn("carol", userPassword+" local")
	if status, _, _ := c.post("/account/linked", url.Values{"directory": {"corp"}, "identifier": {"bob"}, "password": {"wrong"}}); status != http.StatusForbidden {
		t.Errorf("linked with a wrong password: %d", status)
	}
	if status, _, _ := c.post("/account/linked", url.Values{"directory": {"corp"}, "identifier": {"alice"}, "password": {userPassword}}); status != http.StatusConflict {
		t.Errorf("linked with a user of another account: %d", status)
	}
	if status, location, _ := c.post("/account/linked", url.Values{"directory": {"corp"}, "identifier": {"bob"}, "password": {userPassword}}); status != http.StatusSeeOther || !strings.Contains(location, "/account/linked") {
		t.Errorf("link: %d %s", status, location)
	}
	d := newBrowser(t, issuer)
	d.signIn("bob", userPassword)
	if _, _, body := d.get("/account"); !strings.Contains(body, "carol") {
		t.Error("the linked user does not get to the account")
	}
}

// Other spellings of a name, which the directory takes for the same, give a guesser no more
// passwords.
func TestLG05_AGuesserGainsNothingBySpellingANameDifferently(t *testing.T) {
	s := startSlapd(t)
	config := openLDAP(s)
	config.BindDN, config.BindPassword, config.UserBind = "", "", "uid={username},ou=people,dc=corp,dc=example"
	config.Groups, config.Rule, config.FailedAttempts = directory.GroupsOff, "true", 5
	issuer := serve(t, []directory.Config{config}, nil)
	spellings := []string{"alice", "ALICE", "\u00a0alice", "𝐚lice", "ªlice", "ⓐlice", `corp.example\ alice`}
	for i := range "alice" { // full width
		spellings = append(spellings, "alice"[:i]+string(rune("alice"[i])-'a'+'ａ')+"alice"[i+1:])
	}
	for _, name := range spellings {
		newBrowser(t, issuer).signIn(name, "guess")
	}
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	refused := 0
	for line := range strings.Lines(s.log.text.String()) {
		if strings.Contains(line, "err=49") {
			refused++
		}
	}
	if refused == 0 || refused > 5 {
		t.Errorf("%d wrong passwords have reached the directory", refused)
	}
}
