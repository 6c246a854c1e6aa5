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

type applicationView struct {
	// Grants has several elements if the application registered itself several times.
	Grants  []string
	Name    string
	Initial string
	Website string
	Since   moment
	// Used is when the application used its access last, and Where from where; zero if that is not
	// known.
	Used   moment
	Where  string
	Scopes []scopeView
	// Details are the authorization details in words, the latest first. EarlierDetails is set if there were
	// others before.
	Details        []detailView
	EarlierDetails bool
	// Resources are the names of the APIs that the scopes are for.
	Resources []string
	// Open is the URL that starts a sign-in to the application (OpenID Connect Core, section 4).
	Open string
	// group is the same for all registrations of one application; "" for a trusted client.
	group string
}

// detailView is an authorization details object that the user allowed. Text is "" if the server no longer
// knows its type, which is then shown instead.
type detailView struct {
	Text, Type string
	Allowed    moment
}

func (s *session) applications(r *http.Request, uses map[string]storage.Use) ([]applicationView, error) {
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
		v.EarlierDetails = grant.Details.Earlier
		for _, detail := range slices.Backward(grant.Details.Latest) {
			described := s.server.GrantedDetail(detail.Detail)
			v.Details = append(v.Details, detailView{clean(described.Text), cleanName(described.Type), moment{Time: detail.At}})
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
	for i := range applications {
		applications[i].Used, applications[i].Where = s.lastUse(uses, applications[i].Grants)
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
		if !slices.ContainsFunc(listed.Scopes, func(s scopeView) bool { return s.Name == scope.Name }) {
			listed.Scopes = append(listed.Scopes, scope)
		}
	}
	listed.Details, listed.EarlierDetails = append(listed.Details, v.Details...), listed.EarlierDetails || v.EarlierDetails
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

// revoke revokes an application's access, for all of its registrations. The grant must belong
// to the user; a grant that no longer exists is not an error.
func (s *session) revoke(w http.ResponseWriter, r *http.Request) error {
	if done, err := s.needSignIn(w, r); done {
		return err
	}
	applications, err := s.applications(r, nil)
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
			s.config.Accounts.AddEvent(r.Context(), time.Now(), s.who.User.ID, identity.EventAccessRevoked, application.Name, s.activity(r))
			s.events.Record(r.Context(), event.ConsentRevoked, slog.String("sub", s.who.User.ID), slog.String("username", s.who.User.Username),
				slog.String("client_name", application.Name), slog.String("grant", id))
		}
	}
	return s.notify(w, "revoked")
}
