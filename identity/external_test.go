package identity_test

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/memory"
)

func externalAccounts(t *testing.T) (*identity.Accounts, *memory.Store) {
	t.Helper()
	store := memory.New()
	accounts, err := identity.New(identity.Config{Store: store})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(accounts.Close)
	return accounts, store
}

func external(subject, email string, trusted bool) identity.ExternalSignIn {
	return identity.ExternalSignIn{
		User: &identity.ExternalUser{
			Provider: "corp", Name: "Corp", Issuer: "https://corp.example", Subject: subject, Email: email, EmailTrusted: trusted,
			Claims: map[string]any{"name": "Alice", "preferred_username": "alice"},
		},
		Decide: func(u *identity.ExternalUser, _ bool) (identity.Admission, error) {
			return identity.Admission{Create: true, Groups: []string{"staff"}, Claims: map[string]any{"name": u.Claims["name"]}}, nil
		},
	}
}

func store(t *testing.T, s *memory.Store, u identity.User) {
	t.Helper()
	u.CreatedAt, u.UpdatedAt = time.Now(), time.Now()
	if err := s.CreateUser(t.Context(), &u); err != nil {
		t.Fatal(err)
	}
}

func TestParallelFirstSignInsCreateOneAccount(t *testing.T) {
	accounts, s := externalAccounts(t)
	ids := make([]string, 8)
	var all sync.WaitGroup
	for i := range ids {
		all.Go(func() {
			user, err := accounts.SignInExternal(t.Context(), time.Now(), external("42", "alice@corp.example", true))
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = user.ID
		})
	}
	all.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Errorf("accounts %v", ids)
		}
	}
	users, err := s.Users(t.Context(), "", 10)
	if err != nil || len(users) != 1 {
		t.Errorf("%d users (%v)", len(users), err)
	}
}

// FD-03: the same sub at another issuer is another user, and so is the same address without trust.
func TestFD03_AUserIsAnIssuerAndASubject(t *testing.T) {
	accounts, _ := externalAccounts(t)
	first, err := accounts.SignInExternal(t.Context(), time.Now(), external("42", "alice@corp.example", true))
	if err != nil {
		t.Fatal(err)
	}
	other := external("42", "alice@corp.example", false)
	other.User.Issuer = "https://other.example"
	second, err := accounts.SignInExternal(t.Context(), time.Now(), other)
	if err != nil {
		t.Fatal(err)
	}
	if first.ID == second.ID || second.Email() != "" || second.Username == first.Username {
		t.Errorf("the account of the other issuer is %q with %q", second.Username, second.Email())
	}
}

// A local account with a verified address, or one of the operator, is not given to a provider's user.
func TestLinkingRequiresASignInToTheAccount(t *testing.T) {
	for name, u := range map[string]identity.User{
		"verified": {ID: "a", Username: "ally", PasswordHash: "x", Origin: identity.OriginSignedUp, Claims: map[string]any{"email": "alice@corp.example", "email_verified": true}},
		"declared": {ID: "a", Username: "ally", PasswordHash: "x", Origin: identity.OriginDeclared, Claims: map[string]any{"email": "alice@corp.example"}},
	} {
		accounts, s := externalAccounts(t)
		store(t, s, u)
		_, err := accounts.SignInExternal(t.Context(), time.Now(), external("42", "alice@corp.example", true))
		if needed, ok := errors.AsType[*identity.LinkNeededError](err); !ok || needed.UserID != "a" {
			t.Errorf("%s: %v", name, err)
		}
		after, err := s.User(t.Context(), "a")
		if err != nil || after.PasswordHash != "x" || len(after.External) != 0 {
			t.Errorf("%s: the account was changed: %v", name, err)
		}
	}
}

// Someone signed up with the address of alice and never verified it. When alice arrives through a
// trusted provider, nothing of theirs remains: no password, no session, no link.
func TestAnAccountWithAnUnverifiedAddressGoesToItsOwner(t *testing.T) {
	accounts, s := externalAccounts(t)
	u := identity.User{
		ID: "a", Username: "eve", PasswordHash: "hers", UserCodeHash: "hers", Origin: identity.OriginSignedUp, Claims: map[string]any{"email": "Alice@corp.example", "name": "Eve"},
		Authenticators: []identity.Authenticator{{ID: "1", Kind: identity.MethodPasskey}},
		External:       []identity.ExternalLink{{ID: "1", Provider: "corp", Issuer: "https://corp.example", Subject: "eve"}},
	}
	store(t, s, u)
	stored, err := s.User(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	secret, _, err := accounts.StartSession(t.Context(), time.Now(), stored, identity.SessionDetails{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	// Without trust, nothing happens to it.
	if user, err := accounts.SignInExternal(t.Context(), time.Now(), external("41", "alice@corp.example", false)); err != nil || user.ID == "a" {
		t.Fatalf("without trust_email: %v, %v", user, err)
	}
	user, err := accounts.SignInExternal(t.Context(), time.Now(), external("42", "alice@corp.example", true))
	if err != nil {
		t.Fatal(err)
	}
	after, err := s.User(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if user.ID != "a" || after.PasswordHash != "" || after.UserCodeHash != "" || len(after.Authenticators) != 0 || after.Claims["name"] != nil || !after.EmailVerified() ||
		len(after.External) != 1 || after.External[0].Subject != "42" {
		t.Errorf("the account after its owner arrived: %+v", after)
	}
	if _, err := accounts.Session(t.Context(), time.Now(), secret); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("the session of the creator: %v", err)
	}
	if _, _, err := accounts.StartSession(t.Context(), time.Now(), stored, identity.SessionDetails{}, nil); !errors.Is(err, identity.ErrWrongCredentials) {
		t.Errorf("a sign-in of the creator that was in progress: %v", err)
	}
	if _, _, err := accounts.StartSession(t.Context(), time.Now(), user, identity.SessionDetails{}, nil); err != nil {
		t.Errorf("the session of the owner: %v", err)
	}
	if again, err := accounts.SignInExternal(t.Context(), time.Now(), external("eve", "", false)); err != nil || again.ID == "a" {
		t.Errorf("the former link still works: %v", err)
	}
}

func TestMappedClaimsAndGroupsAreRefreshed(t *testing.T) {
	accounts, s := externalAccounts(t)
	user, err := accounts.SignInExternal(t.Context(), time.Now(), external("42", "", false))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.UpdateUser(t.Context(), user.ID, func(u *identity.User) error {
		u.Claims = map[string]any{"nickname": "Ally", "groups": []any{"own"}}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	next := external("42", "", false)
	next.User.Claims["name"] = "Alice Liddell"
	if user, err = accounts.SignInExternal(t.Context(), time.Now(), next); err != nil {
		t.Fatal(err)
	}
	claims := user.AllClaims()
	if claims["name"] != "Alice Liddell" || claims["nickname"] != "Ally" || fmt.Sprint(claims["groups"]) != "[own staff]" {
		t.Errorf("claims: %v", claims)
	}
	next.Decide = func(*identity.ExternalUser, bool) (identity.Admission, error) {
		return identity.Admission{Refused: true, Reason: "gone"}, nil
	}
	if _, err := accounts.SignInExternal(t.Context(), time.Now(), next); err == nil {
		t.Error("a user whom the rule refuses now signs in")
	}
	if err := s.UpdateUser(t.Context(), user.ID, func(u *identity.User) error { u.Disabled = true; return nil }); err != nil {
		t.Fatal(err)
	}
	// FD-05
	if _, err := accounts.SignInExternal(t.Context(), time.Now(), external("42", "", false)); err == nil {
		t.Error("a disabled user signs in through the provider")
	}
}

func TestTheLastMethodCannotBeUnlinked(t *testing.T) {
	accounts, s := externalAccounts(t)
	user, err := accounts.SignInExternal(t.Context(), time.Now(), external("42", "", false))
	if err != nil {
		t.Fatal(err)
	}
	if err := accounts.UnlinkExternal(t.Context(), time.Now(), user.ID, user.External[0].ID, nil, identity.Activity{}); !errors.Is(err, identity.ErrLastMethod) {
		t.Errorf("the only link: %v", err)
	}
	if err := accounts.LinkExternal(t.Context(), time.Now(), user.ID, external("43", "", false), identity.Activity{}); err != nil {
		t.Fatal(err)
	}
	if err := accounts.UnlinkExternal(t.Context(), time.Now(), user.ID, user.External[0].ID, nil, identity.Activity{}); err != nil {
		t.Errorf("one of two links: %v", err)
	}
	other, err := accounts.SignInExternal(t.Context(), time.Now(), external("44", "", false))
	if err != nil {
		t.Fatal(err)
	}
	if err := accounts.LinkExternal(t.Context(), time.Now(), other.ID, external("43", "", false), identity.Activity{}); !errors.Is(err, identity.ErrExternalTaken) {
		t.Errorf("the link of another account: %v", err)
	}
	if after, err := s.User(t.Context(), user.ID); err != nil || len(after.External) != 1 || after.External[0].Subject != "43" {
		t.Errorf("links: %v", err)
	}
}

// The ID token of a sign-in at a provider is not in the store as it is, and comes back with the session.
func TestIDTokensOfProvidersAreSealed(t *testing.T) {
	accounts, s := externalAccounts(t)
	user := &identity.User{ID: "u", Username: "alice", CreatedAt: time.Now(), UpdatedAt: time.Now()}
	if err := s.CreateUser(t.Context(), user); err != nil {
		t.Fatal(err)
	}
	const token = "eyJhbGciOiJFUzI1NiJ9.e30.c2ln"
	signedIn := &identity.ExternalUser{Provider: "corp", Issuer: "https://corp.example", Subject: "s", Session: identity.ExternalSession{ID: "sid-1", IDToken: token}}
	reference, err := accounts.HoldExternalSession(t.Context(), time.Now(), user.ID, signedIn)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{reference, "sid " + reference} {
		ticket, err := s.Get(t.Context(), time.Now(), ticketkind.ExternalSession.Hash(key))
		if err != nil || bytes.Contains(ticket.Data, []byte(token)) || !bytes.Contains(ticket.Data, []byte("sid-1")) {
			t.Errorf("the ticket has %s, %v", ticket.Data, err)
		}
	}
	session := &identity.Session{User: user, SessionDetails: identity.SessionDetails{Proofs: []identity.ProvedMethod{{Method: identity.MethodUpstream, Authenticator: reference}, {Method: identity.MethodUpstream, Authenticator: "gone"}}}}
	logouts, err := accounts.ExternalLogouts(t.Context(), time.Now(), session)
	if err != nil || len(logouts) != 1 || logouts[0].Provider != "corp" || logouts[0].IDToken != token {
		t.Errorf("the logouts: %d, %v", len(logouts), err)
	}
}

// A browser in which another user signs in keeps in mind which sessions at providers the former one has
// begun, for the logout. Their end does not end the session of the other user.
func TestSessionsAtProvidersOfAFormerUser(t *testing.T) {
	accounts, _ := externalAccounts(t)
	ctx, now := t.Context(), time.Now()
	begin := func(provider string, old *identity.Session) *identity.Session {
		t.Helper()
		e := external("at "+provider, "", false)
		e.User.Provider, e.User.Issuer, e.User.Session.ID = provider, "https://"+provider+".example", "a session"
		user, err := accounts.SignInExternal(ctx, now, e)
		if err != nil {
			t.Fatal(err)
		}
		reference, err := accounts.HoldExternalSession(ctx, now, user.ID, e.User)
		if err != nil {
			t.Fatal(err)
		}
		proofs := []identity.ProvedMethod{{Method: identity.MethodUpstream, At: now, Authenticator: reference}}
		secret, _, err := accounts.StartSession(ctx, now, user, identity.SessionDetails{Proofs: proofs}, old)
		if err != nil {
			t.Fatal(err)
		}
		session, err := accounts.Session(ctx, now, secret)
		if err != nil {
			t.Fatal(err)
		}
		return session
	}
	logouts := func(session *identity.Session) (providers string) {
		t.Helper()
		found, err := accounts.ExternalLogouts(ctx, now, session)
		if err != nil {
			t.Fatal(err)
		}
		for _, logout := range found {
			providers += logout.Provider + " "
		}
		return providers
	}
	second := begin("partner", begin("corp", nil))
	if got := logouts(second); got != "partner corp " {
		t.Errorf("a logout ends the sessions at %s", got)
	}
	if ended, err := accounts.EndExternalSessions(ctx, now, "https://corp.example", "at corp", ""); err != nil || ended != 0 {
		t.Errorf("the end of the former user's session at the provider ends %d sessions here, %v", ended, err)
	}
	if active, err := accounts.SessionActive(ctx, now, second.ID); err != nil || !active {
		t.Errorf("the session of the other user has ended: %v", err)
	}
	if got := logouts(second); got != "partner " {
		t.Errorf("after one has ended, a logout ends the sessions at %s", got)
	}
}
