package ldap

import (
	"strings"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/identity/directory"
	"github.com/valetkey/valetkey/storage/memory"
)

// Users who are disabled in the directory, or are no longer there, lose their sessions; the others keep
// theirs. A service account that sees nobody any more signs nobody out.
func TestUsersAreChecked(t *testing.T) {
	s := startSlapd(t)
	store := memory.New()
	accounts, err := identity.New(identity.Config{Store: store})
	if err != nil {
		t.Fatal(err)
	}
	defer accounts.Close()
	directories, err := directory.New([]directory.Config{openLDAP(s)}, directory.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer directories.Close()
	at := directories.Directory("corp")
	sessions := map[string]string{}
	signIn := func(name string) error {
		list, _ := directories.ForIdentifier(name)
		user, external, err := accounts.SignInWithPassword(t.Context(), now(), identity.Attempt{Identifier: name, Password: userPassword, Directories: directory.Users(list, name)})
		if err != nil {
			return err
		}
		reference, err := accounts.HoldExternalSession(t.Context(), now(), user.ID, external)
		if err != nil {
			t.Fatal(err)
		}
		secret, _, err := accounts.StartSession(t.Context(), now(), user, identity.SessionDetails{Proofs: []identity.ProvedMethod{{Method: identity.MethodUpstream, At: now(), Authenticator: reference}}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		sessions[name] = secret
		return nil
	}
	s.addUser(t, "eve", nil)
	for _, name := range []string{"alice", "bob", "eve"} {
		if err := signIn(name); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	live := func(name string) bool {
		session, err := accounts.Session(t.Context(), now(), sessions[name])
		return err == nil && session != nil
	}
	s.modify(t, userDN("bob"), "objectClass", "inetOrgPerson", "shadowAccount")
	s.modify(t, userDN("bob"), "shadowExpire", "1")
	if err := s.admin.Del(ldap.NewDelRequest(userDN("eve"), nil)); err != nil {
		t.Fatal(err)
	}
	suspended, err := at.CheckUsers(t.Context(), accounts)
	if err != nil || suspended != 2 {
		t.Fatalf("suspended %d: %v", suspended, err)
	}
	if !live("alice") || live("bob") || live("eve") {
		t.Errorf("sessions: alice %v, bob %v, eve %v", live("alice"), live("bob"), live("eve"))
	}
	if suspended, err := at.CheckUsers(t.Context(), accounts); err != nil || suspended != 0 {
		t.Errorf("again: suspended %d: %v", suspended, err)
	}
	// Another method than the password there does not help.
	bob, err := accounts.FindAny(t.Context(), "bob")
	if err != nil {
		t.Fatal(err)
	}
	if in, known := at.LetsIn(t.Context(), bob.External[0].Subject); in || !known {
		t.Errorf("bob is let in: %v, known %v", in, known)
	}
	// bob is let in again, and can sign in.
	s.modify(t, userDN("bob"), "shadowExpire")
	if err := signIn("bob"); err != nil || !live("bob") {
		t.Errorf("after bob was let in again: %v", err)
	}
	// A wrong base looks as if everybody had gone.
	for _, name := range strings.Fields("u1 u2 u3 u4 u5 u6 u7 u8 u9") {
		s.addUser(t, name, nil)
		if err := signIn(name); err != nil {
			t.Fatal(err)
		}
	}
	wrong := openLDAP(s)
	wrong.UserBase = "ou=groups,dc=corp,dc=example"
	moved, err := directory.New([]directory.Config{wrong}, directory.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer moved.Close()
	if _, err := moved.Directory("corp").CheckUsers(t.Context(), accounts); err == nil || !live("u1") {
		t.Errorf("a wrong base: %v, u1 %v", err, live("u1"))
	}
}

func now() time.Time { return time.Now() }
