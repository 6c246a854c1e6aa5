package console

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/valetkey/valetkey/manage/api"
	"github.com/valetkey/valetkey/oauth"
)

// clientKind is what an operator calls a client, and the members that follow from it.
type clientKind struct {
	name, title, text string
	grants            []string
	method            string // token_endpoint_auth_method
	applicationType   string
	redirects         bool // it has redirect URIs
}

var kinds = [...]clientKind{
	{"web", "Web application", "It runs on a server and can keep a secret.", []string{oauth.GrantTypeAuthorizationCode, oauth.GrantTypeRefreshToken}, oauth.AuthMethodClientSecretBasic, "", true},
	{"browser", "Single-page application", "It runs in the browser, where nothing is secret.", []string{oauth.GrantTypeAuthorizationCode, oauth.GrantTypeRefreshToken}, oauth.AuthMethodNone, "", true},
	{"native", "Mobile or desktop application", "It is installed on the devices of users.", []string{oauth.GrantTypeAuthorizationCode, oauth.GrantTypeRefreshToken}, oauth.AuthMethodNone, "native", true},
	{"service", "Service", "It calls an API for itself, without a user.", []string{oauth.GrantTypeClientCredentials}, oauth.AuthMethodClientSecretBasic, "", false},
	{"device", "Device", "It has no browser, such as a television or a command-line tool.", []string{oauth.GrantTypeDeviceCode, oauth.GrantTypeRefreshToken}, oauth.AuthMethodNone, "native", false},
}

// kindOf returns the kind that fits a client best.
func kindOf(m api.ClientMembers) clientKind {
	public := m.TokenEndpointAuthMethod == oauth.AuthMethodNone
	switch {
	case slices.Contains(m.GrantTypes, oauth.GrantTypeDeviceCode):
		return kinds[4]
	case len(m.GrantTypes) > 0 && !slices.Contains(m.GrantTypes, oauth.GrantTypeAuthorizationCode):
		return kinds[3]
	case public && m.ApplicationType == "native":
		return kinds[2]
	case public:
		return kinds[1]
	}
	return kinds[0]
}

// clientForm is the content of the form of a client.
type clientForm struct {
	// Editing is the client_id and ETag the version of the client that the form changes; "" for a new one.
	Editing, ETag string
	ID            string
	Name          string
	Kind          string
	RedirectURIs  string // one on each line
	LogoutURIs    string
	Scope         string
	URI           string
	Wait          bool // for the first request, which has the redirect URI
	SkipConsent   bool
	Disabled      bool
	// JSON has all members, if the form for that was submitted.
	JSON     string
	Problems []string
}

func readClientForm(form url.Values) clientForm {
	return clientForm{
		Editing: form.Get("id"), ETag: form.Get("etag"), ID: strings.TrimSpace(form.Get("client_id")), Name: strings.TrimSpace(form.Get("client_name")),
		Kind: form.Get("kind"), RedirectURIs: form.Get("redirect_uris"), LogoutURIs: form.Get("post_logout_redirect_uris"),
		Scope: form.Get("scope"), URI: strings.TrimSpace(form.Get("client_uri")), Wait: form.Has("wait"), SkipConsent: form.Has("skip_consent"), Disabled: form.Has("disabled"), JSON: form.Get("members"),
	}
}

// formOf returns the form that changes a client.
func formOf(client *api.Client) (clientForm, error) {
	all, err := json.MarshalIndent(client.ClientMembers, "", "  ")
	if err != nil {
		return clientForm{}, err
	}
	return clientForm{
		Editing: client.ID, ETag: client.ETag, ID: client.ID, Name: client.ClientName, Kind: kindOf(client.ClientMembers).name,
		RedirectURIs: strings.Join(client.RedirectURIs, "\n"), LogoutURIs: strings.Join(client.PostLogoutRedirectURIs, "\n"),
		Scope: client.Scope, URI: client.ClientURI, SkipConsent: client.SkipConsent, Disabled: client.Disabled, JSON: string(all),
	}, nil
}

// members returns the members of a client with those of the form. Members that the form does not have
// stay as they are.
func (f clientForm) members(m api.ClientMembers) api.ClientMembers {
	m.ClientName, m.ClientURI, m.Scope = f.Name, f.URI, strings.Join(strings.Fields(f.Scope), " ")
	m.RedirectURIs, m.PostLogoutRedirectURIs = lines(f.RedirectURIs), lines(f.LogoutURIs)
	m.SkipConsent, m.Disabled = f.SkipConsent, f.Disabled
	if f.Editing != "" && f.Kind == kindOf(m).name {
		return m
	}
	for _, k := range kinds {
		if k.name == f.Kind {
			m.GrantTypes, m.TokenEndpointAuthMethod, m.ApplicationType = k.grants, k.method, k.applicationType
		}
	}
	return m
}

// lines returns the lines of a text that are not empty.
func lines(text string) []string {
	var found []string
	for line := range strings.SplitSeq(text, "\n") {
		if line = strings.TrimSpace(line); line != "" {
			found = append(found, line)
		}
	}
	return found
}

// decodeMembers decodes the members of a client, and refuses those that it does not know.
func decodeMembers(text string, m *api.ClientMembers) error {
	decoder := json.NewDecoder(bytes.NewReader([]byte(text)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(m); err != nil {
		return errors.New("the members are not valid: " + strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("the members are not one JSON object")
	}
	return nil
}

type clientFormView struct {
	clientForm
	Kinds []kindView
}

type kindView struct {
	Name, Title, Text string
	Chosen            bool
}

func (v *visit) writeClientForm(w http.ResponseWriter, status int, form clientForm) error {
	view := clientFormView{clientForm: form}
	for _, k := range kinds {
		view.Kinds = append(view.Kinds, kindView{k.name, k.title, k.text, k.name == form.Kind})
	}
	title := "New client"
	if form.Editing != "" {
		title = "Change " + form.Editing
	}
	return v.write(w, status, "client-form", title, view)
}

// problemsOf returns what a form shows about a request that the API refused; nil for other errors.
func problemsOf(err error) (problems []string, status int) {
	problem, ok := errors.AsType[*api.Problem](err)
	if !ok {
		return nil, 0
	}
	switch problem.Status {
	case http.StatusBadRequest, http.StatusConflict, http.StatusUnprocessableEntity, http.StatusPreconditionFailed:
	default:
		return nil, 0
	}
	for _, e := range problem.Errors {
		problems = append(problems, strings.TrimPrefix(strings.TrimPrefix(e.Location, "body.")+": ", ": ")+e.Message)
	}
	if problems == nil {
		problems = []string{sentence(problem.Error())}
	}
	return problems, problem.Status
}

// at returns a page of the console with an ID.
func at(path, id string) string { return path + "?" + url.Values{"id": {id}}.Encode() }
