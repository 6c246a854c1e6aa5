package ui

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

type accountView struct {
	User         *identity.User
	Person       *personView
	Notice       string
	Approvals    []approvalView
	Applications []applicationView
	Sessions     []sessionView
	Email        *emailState // nil if no messages can be sent
}

// emailState is the state of the user's address.
type emailState struct {
	Address  string
	Verified bool
	Pending  string // an address that is not confirmed yet
}

type applicationView struct {
	// Grants has several elements if the application registered itself several times.
	Grants  []string
	Name    string
	Initial string
	Website string
	Since   moment
	Scopes  []scopeView
	// Resources are the names of the APIs that the scopes are for.
	Resources []string
	// Open is the URL that starts a sign-in to the application (OpenID Connect Core, section 4).
	Open string
	// group is the same for all registrations of one application; "" for a trusted client.
	group string
}

type sessionView struct {
	ID      string
	Browser string
	Remote  string
	Since   moment
	This    bool
}

func (s *session) home(w http.ResponseWriter, r *http.Request) error {
	return s.redirect(w, "/account")
}

// needSignIn redirects to the sign-in page if the user is not signed in, and reports whether
// it did.
func (s *session) needSignIn(w http.ResponseWriter, r *http.Request) (bool, error) {
	if s.who != nil {
		return false, nil
	}
	return true, s.redirect(w, "/sign-in")
}

func (s *session) showAccount(w http.ResponseWriter, r *http.Request) error {
	if s.who == nil && r.URL.Query().Has(signedInParam) && s.missingCookies(w, r) {
		return nil
	}
	if done, err := s.needSignIn(w, r); done {
		return err
	}
	user := s.who.User
	v := accountView{User: user, Person: person(user), Notice: s.notice(w, r)}
	v.Approvals = s.approvals(r)
	var err error
	if v.Applications, err = s.applications(r); err != nil {
		return err
	}
	if v.Sessions, err = s.sessions(r); err != nil {
		return err
	}
	if s.config.Accounts.CanMail() {
		v.Email = &emailState{Address: user.Email(), Verified: user.EmailVerified()}
		if v.Email.Pending, err = s.config.Accounts.PendingEmail(r.Context(), time.Now(), user); err != nil {
			return err
		}
	}
	return s.write(w, pageResponse{template: "account", title: "Your account", account: user, data: v})
}

func (s *session) applications(r *http.Request) ([]applicationView, error) {
	grants, err := s.config.Store.GrantsOf(r.Context(), s.who.User.ID)
	if err != nil {
		return nil, fmt.Errorf("list grants: %w", err)
	}
	scopes, err := s.config.Store.Scopes(r.Context())
	if err != nil {
		return nil, fmt.Errorf("list scopes: %w", err)
	}
	resources, err := s.config.Store.Resources(r.Context())
	if err != nil {
		return nil, fmt.Errorf("list resources: %w", err)
	}
	slices.SortStableFunc(grants, func(a, b record.Grant) int { return a.CreatedAt.Compare(b.CreatedAt) })
	var applications []applicationView
	for _, grant := range grants {
		v := applicationView{Grants: []string{grant.ID}, Name: cleanName(grant.ClientID), Since: moment{Time: grant.CreatedAt}}
		client, err := s.config.Store.Client(r.Context(), grant.ClientID)
		switch {
		case err == nil:
			v.Name, v.Website = clientName(client), webHost(client.ClientURI)
			v.Open = initiateLogin(client.InitiateLoginURI, s.config.Issuer)
			v.group = applicationGroup(client)
		case !errors.Is(err, storage.ErrNotFound):
			return nil, fmt.Errorf("find the client of a grant: %w", err)
		}
		if oauth.IsClientIDURL(grant.ClientID) {
			v.Name, v.Website = webHost(grant.ClientID), cleanName(strings.TrimPrefix(grant.ClientID, "https://"))
		}
		v.Initial = initial(v.Name)
		for _, name := range grant.Scope {
			scope := record.Scope{Name: name}
			if i := slices.IndexFunc(scopes, func(s record.Scope) bool { return s.Name == name }); i >= 0 {
				scope = scopes[i]
			}
			words, ok := inWords(scope)
			v.Scopes = append(v.Scopes, scopeView{Name: name, Words: words, Plain: !ok})
		}
		for _, identifier := range grant.Resources {
			resource := record.Resource{Identifier: identifier}
			if i := slices.IndexFunc(resources, func(r record.Resource) bool { return oauth.SameResource(r.Identifier, identifier) }); i >= 0 {
				resource = resources[i]
			}
			v.Resources = append(v.Resources, resourceName(resource.Name, resource.Identifier))
		}
		applications = addApplication(applications, v)
	}
	slices.SortFunc(applications, func(a, b applicationView) int {
		return strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name))
	})
	return applications, nil
}

// addApplication appends an application to the list. Another registration of an application
// that is already listed is merged into its entry, to keep the list short.
func addApplication(applications []applicationView, v applicationView) []applicationView {
	i := slices.IndexFunc(applications, func(a applicationView) bool { return v.group != "" && a.group == v.group })
	if i < 0 {
		return append(applications, v)
	}
	listed := &applications[i]
	listed.Grants = append(listed.Grants, v.Grants...)
	for _, scope := range v.Scopes {
		if !slices.Contains(listed.Scopes, scope) {
			listed.Scopes = append(listed.Scopes, scope)
		}
	}
	for _, resource := range v.Resources {
		if !slices.Contains(listed.Resources, resource) {
			listed.Resources = append(listed.Resources, resource)
		}
	}
	return applications
}

// applicationGroup returns the same value for unvouched clients that users cannot tell apart:
// same name, site and redirect hosts. Some applications register themselves on every start.
func applicationGroup(c *record.Client) string {
	if c.Vouched() {
		return ""
	}
	var to []string
	for _, uri := range c.RedirectURIs {
		u, err := url.Parse(uri)
		if err != nil {
			return ""
		}
		to = append(to, u.Scheme+"://"+u.Hostname()) // the port may be any free one
	}
	slices.Sort(to)
	return fmt.Sprintf("%q", append(slices.Compact(to), clientName(c), webHost(c.ClientURI), c.InitiateLoginURI))
}

// initiateLogin returns the URL that makes an application start a sign-in with this issuer; ""
// if the address is not an https URL.
func initiateLogin(address, issuer string) string {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" {
		return ""
	}
	query := u.Query()
	query.Set("iss", issuer)
	u.RawQuery = query.Encode()
	return u.String()
}

func (s *session) sessions(r *http.Request) ([]sessionView, error) {
	sessions, err := s.config.Accounts.Sessions(r.Context(), time.Now(), s.who.User.ID)
	if err != nil {
		return nil, err
	}
	var views []sessionView
	for _, session := range sessions {
		v := sessionView{ID: session.ID, Browser: browser(session.UserAgent), Since: moment{session.AuthTime, true}, This: session.ID == s.who.ID}
		if session.Remote.IsValid() {
			v.Remote = session.Remote.String()
		}
		views = append(views, v)
	}
	// The current session comes first; the others keep their order.
	slices.SortStableFunc(views, func(a, b sessionView) int {
		switch {
		case a.This:
			return -1
		case b.This:
			return 1
		}
		return 0
	})
	return views, nil
}

// revoke revokes an application's access, for all of its registrations. The grant must belong
// to the user; a grant that no longer exists is not an error.
func (s *session) revoke(w http.ResponseWriter, r *http.Request) error {
	if done, err := s.needSignIn(w, r); done {
		return err
	}
	applications, err := s.applications(r)
	if err != nil {
		return err
	}
	for _, application := range applications {
		if !slices.Contains(application.Grants, r.PostForm.Get("grant")) {
			continue
		}
		for _, id := range application.Grants {
			if err := s.config.Store.DeleteGrant(r.Context(), id); err != nil {
				return fmt.Errorf("revoke a grant: %w", err)
			}
			s.events.Record(r.Context(), event.ConsentRevoked, slog.String("sub", s.who.User.ID), slog.String("username", s.who.User.Username),
				slog.String("client_name", application.Name), slog.String("grant", id))
		}
	}
	return s.notify(w, "revoked")
}

// endSession ends one of the user's own sessions.
func (s *session) endSession(w http.ResponseWriter, r *http.Request) error {
	if done, err := s.needSignIn(w, r); done {
		return err
	}
	id := r.PostForm.Get("session")
	other, err := s.config.Accounts.SessionByID(r.Context(), time.Now(), id)
	switch {
	case errors.Is(err, storage.ErrNotFound):
	case err != nil:
		return err
	case other.User.ID == s.who.User.ID:
		if err := s.config.Accounts.EndSession(r.Context(), time.Now(), other.ID); err != nil {
			return err
		}
		s.server.SessionsEnded()
	}
	return s.notify(w, "ended")
}

// endSessions signs the user out on all devices, including this one.
func (s *session) endSessions(w http.ResponseWriter, r *http.Request) error {
	if done, err := s.needSignIn(w, r); done {
		return err
	}
	s.server.SignOut(w, r, func() error {
		identity.ClearSessionCookie(w, s.config.Issuer)
		return s.config.Accounts.EndSessions(r.Context(), time.Now(), s.who.User.ID)
	})
	return nil
}

type passwordView struct {
	User       *identity.User
	Alert      string
	CurrentBad bool // the alert is about the current password
	NewBad     bool
}

func (s *session) showPassword(w http.ResponseWriter, r *http.Request) error {
	if done, err := s.needSignIn(w, r); done {
		return err
	}
	return s.writePassword(w, passwordView{}, pageResponse{})
}

func (s *session) writePassword(w http.ResponseWriter, v passwordView, a pageResponse) error {
	v.User = s.who.User
	a.template, a.title, a.account, a.data = "password", "Change your password", s.who.User, v
	return s.write(w, a)
}

func (s *session) changePassword(w http.ResponseWriter, r *http.Request) error {
	if done, err := s.needSignIn(w, r); done {
		return err
	}
	err := s.config.Accounts.ChangePassword(r.Context(), time.Now(), identity.PasswordChange{
		UserID: s.who.User.ID, Current: r.PostForm.Get("current"), New: r.PostForm.Get("new"),
		Session: s.who.ID, EndOthers: r.PostForm.Has("end-others"), Activity: s.activity(r),
	})
	if err == nil {
		s.server.SessionsEnded()
		// All remembered devices were removed; this one is remembered again.
		if r.PostForm.Has("end-others") {
			if _, err := s.remember(r.Context(), w, r, time.Now(), s.who.User); err != nil {
				return err
			}
			return s.notify(w, "password-others")
		}
		return s.notify(w, "password")
	}
	var v passwordView
	if weak, ok := errors.AsType[*identity.WeakPasswordError](err); ok {
		v.Alert, v.NewBad = weak.Reason, true
		return s.writePassword(w, v, pageResponse{status: http.StatusBadRequest})
	}
	a, known := signInRefusal(err, &v.Alert)
	if !known {
		return err
	}
	if errors.Is(err, identity.ErrWrongCredentials) {
		v.Alert, v.CurrentBad = "Your current password is incorrect.", true
	}
	return s.writePassword(w, v, a)
}
