package ui

import (
	"cmp"
	"net/http"
	"slices"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/ui/messages"
)

type consentView struct {
	waiting
	Subject    string
	Person     *personView
	ClientName string
	Initial    string
	Logo       string // URL below our own origin; "" for none
	Website    string // host of the client's website, according to its metadata
	Publisher  string // host of the client's metadata document; "" for other clients
	Unvouched  bool   // the client registered itself and is not verified
	// FirstTime is set if the user has never used the client, Newcomer if no user has.
	FirstTime, Newcomer bool
	Device              *deviceRequest      // nil unless this is a device's request
	Backchannel         *backchannelRequest // nil unless the client sent the request itself (CIBA)
	Destination         *messages.Text
	Native              bool
	// Wanted are the new scopes, Before those that were allowed earlier.
	Wanted, Before []scopeView
	// Details are the authorization details in words (RFC 9396). The user is asked every time.
	Details   []string
	Resources []string
	PolicyURI string
	TOSURI    string
	Other     string
}

type scopeView struct {
	Name     string
	Words    *messages.Text
	Plain    bool // Words is the scope's name, because it has no description
	Optional bool
	Ticked   bool // for an optional scope
}

func (s *session) showConsent(w http.ResponseWriter, r *http.Request) error {
	in, ok := s.interaction(w, r)
	if !ok {
		return nil
	}
	if in == nil || in.Client == nil {
		s.clientError(w, r, http.StatusBadRequest, authserver.PageExpired)
		return nil
	}
	if s.who == nil || s.who.User.ID != in.Subject {
		http.Redirect(w, r, s.server.ContinueURL(in), http.StatusSeeOther)
		return nil
	}
	client := translated(in.Client, s.preferredLanguage(r, in))
	v := consentView{
		waiting:    waitingFor(in),
		Subject:    s.who.User.ID,
		Person:     person(s.who.User),
		ClientName: clientName(client),
		Logo:       s.logoURL(r, client, in.ID),
		Website:    webHost(client.ClientURI),
		Unvouched:  !client.Vouched(),
		PolicyURI:  httpsLink(client.PolicyURI),
		TOSURI:     httpsLink(client.TOSURI),
		Other:      s.base + "/sign-in" + waitingFor(in).query(),
	}
	v.Initial = initial(v.ClientName)
	if v.Unvouched {
		v.FirstTime, v.Newcomer = in.FirstTime, in.Newcomer
	}
	if oauth.IsClientIDURL(client.ID) {
		// The host of the document is proven, the website in it is not.
		v.Publisher, v.Website = webHost(client.ID), ""
	}
	switch {
	case in.Device != nil:
		v.Device = s.deviceRequest(r, in.Device)
	case in.Backchannel != nil:
		v.Backchannel = describeBackchannel(in.Backchannel)
	default:
		v.Destination, v.Native = destination(in.RedirectURI)
		// Another program cannot redeem a confidential client's code (RFC 8252, section 8.6).
		v.Native = v.Native && (client.Public() || v.Unvouched)
	}
	v.Wanted, v.Before = s.scopesInWords(in)
	for _, detail := range in.AuthorizationDetails {
		v.Details = append(v.Details, clean(detail.Text))
	}
	for _, resource := range in.Resources {
		v.Resources = append(v.Resources, resourceName(resource.Name, resource.Identifier))
	}
	return s.write(w, pageResponse{
		template: "consent", title: text("consent.title", "client", v.ClientName), formAction: in.FormAction, data: v,
	})
}

// resourceName returns what pages call an API: its name, or its identifier if it has none.
func resourceName(name, identifier string) string {
	return cmp.Or(cleanName(name), cleanName(identifier))
}

// scopesInWords returns descriptions of the scopes that the client requests, split into new
// ones and those that were allowed before. If nothing is new, all are returned as wanted. An
// optional scope is ticked as the user left it last time.
func (s *session) scopesInWords(in *authserver.Interaction) (wanted, before []scopeView) {
	offline := in.OfflineAccess
	for _, scope := range in.Scopes {
		offline = offline && scope.Name != oauth.ScopeOfflineAccess
		words, ok := inWords(scope.Scope)
		v := scopeView{Name: scope.Name, Words: words, Plain: !ok, Optional: scope.Optional}
		v.Ticked = scope.Granted || !scope.Declined && !s.config.OptionalUnticked
		if scope.Granted {
			before = append(before, v)
		} else {
			wanted = append(wanted, v)
		}
	}
	if offline {
		wanted = append(wanted, scopeView{Words: text(standardScopes[oauth.ScopeOfflineAccess])})
	}
	if len(wanted) == 0 {
		return before, nil
	}
	return wanted, before
}

func (s *session) consent(w http.ResponseWriter, r *http.Request) error {
	in, ok := s.interaction(w, r)
	if !ok {
		return nil
	}
	if in == nil || in.Client == nil {
		s.clientError(w, r, http.StatusBadRequest, authserver.PageExpired)
		return nil
	}
	switch r.PostForm.Get("answer") {
	case "allow":
	case "deny":
		s.server.Refused(w, r, in.ID)
		return nil
	default:
		s.ErrorPage(w, r, pageError(http.StatusBadRequest, pageBadForm))
		return nil
	}
	// The requested scopes come from the interaction; the form only selects among the
	// optional ones.
	allowed := authserver.ConsentAnswer{Subject: r.PostForm.Get("subject")}
	for _, scope := range in.Scopes {
		if !scope.Optional || slices.Contains(r.PostForm["scope"], scope.Name) {
			allowed.Scope = append(allowed.Scope, scope.Name)
		}
	}
	s.server.Consented(w, r, in.ID, allowed)
	return nil
}
