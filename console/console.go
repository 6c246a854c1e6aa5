package console

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/manage"
	"github.com/valetkey/valetkey/manage/api"
	"github.com/valetkey/valetkey/ui"
)

// Path is where the console is below the issuer.
const Path = "/console"

// Config configures a console. Every field is required, except that a nil Logger is slog.Default().
type Config struct {
	Issuer string
	// Frame are the pages of end users, which sign operators in.
	Frame ui.Frame
	// API is what the console calls.
	API *manage.API
	// RemoteAddr returns the address of the browser behind trusted proxies.
	RemoteAddr func(r *http.Request) netip.Addr
	Logger     *slog.Logger
}

// Console serves the pages. It is safe for concurrent use.
type Console struct {
	config    Config
	log       *slog.Logger
	base      string // path of the console, with that of the issuer
	issuer    string // path of the issuer
	style     asset
	templates templates
}

// New returns a console.
func New(config Config) (*Console, error) {
	issuer, err := url.Parse(config.Issuer)
	if err != nil {
		return nil, fmt.Errorf("console: issuer: %w", err)
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	c := &Console{config: config, log: config.Logger, issuer: strings.TrimSuffix(issuer.Path, "/")}
	c.base = c.issuer + Path
	if c.style, err = loadStyle(); err != nil {
		return nil, err
	}
	return c, nil
}

// page is a row of the table of pages.
type page struct {
	path string // below the console
	// section is the entry of the navigation that the page belongs to.
	section string
	get     func(*visit, http.ResponseWriter, *http.Request) error
	post    func(*visit, http.ResponseWriter, *http.Request) error
	// form is set if the page has a form whose content would be lost if the user had to prove again who
	// they are when it is submitted.
	form bool
	// needs is a permission without which the page is refused before it shows a form; "" for none. The
	// API checks every change again.
	needs api.Permission
	// back is the page from which a page without a GET is used.
	back string
}

// pages is the table of pages. Only a POST changes anything. What a page shows is named by the parameter
// id.
var pages = [...]page{
	{path: "", section: "overview", get: (*visit).showOverview},
	{path: "/clients", section: "clients", get: (*visit).showClients},
	{path: "/clients/new", section: "clients", get: (*visit).showNewClient, post: (*visit).createClient, form: true, needs: api.ClientsWrite},
	{path: "/client", section: "clients", get: (*visit).showClient},
	{path: "/client/edit", section: "clients", get: (*visit).showEditClient, post: (*visit).editClient, form: true, needs: api.ClientsWrite},
	{path: "/client/delete", section: "clients", get: (*visit).showDeleteClient, post: (*visit).deleteClient, form: true, needs: api.ClientsWrite},
	{path: "/client/secrets/add", section: "clients", back: "/client", post: (*visit).addClientSecret},
	{path: "/client/secrets/remove", section: "clients", get: (*visit).showRemoveClientSecret, post: (*visit).removeClientSecret, form: true, needs: api.ClientsWrite},
	{path: "/client/end", section: "clients", get: (*visit).showEndClient, post: (*visit).endClient, form: true, needs: api.SessionsWrite},
	{path: "/client/grants/revoke", section: "clients", back: "/client", post: (*visit).revokeClientGrant},
	{path: "/client/tokens/end", section: "clients", back: "/client", post: (*visit).endClientToken},
	{path: "/client/wait", section: "clients", get: (*visit).showWait, post: (*visit).answerRequest, form: true, needs: api.ClientsWrite},
	{path: "/recipes", section: "clients", get: (*visit).showRecipes, needs: api.ClientsWrite},
	{path: "/recipe", section: "clients", get: (*visit).showRecipe, post: (*visit).createFromRecipe, form: true, needs: api.ClientsWrite},
	{path: "/welcome", section: "overview", get: (*visit).showWelcome},
	{path: "/scopes", section: "scopes", get: (*visit).showScopes},
	{path: "/scopes/new", section: "scopes", get: (*visit).showNewScope, post: (*visit).createScope, form: true, needs: api.ScopesWrite},
	{path: "/scope", section: "scopes", get: (*visit).showScope, post: (*visit).editScope, form: true},
	{path: "/scope/delete", section: "scopes", get: (*visit).showDeleteScope, post: (*visit).deleteScope, form: true, needs: api.ScopesWrite},
	{path: "/resources", section: "resources", get: (*visit).showResources},
	{path: "/resources/new", section: "resources", get: (*visit).showNewResource, post: (*visit).createResource, form: true, needs: api.ResourcesWrite},
	{path: "/resource", section: "resources", get: (*visit).showResource, post: (*visit).editResource, form: true},
	{path: "/resource/delete", section: "resources", get: (*visit).showDeleteResource, post: (*visit).deleteResource, form: true, needs: api.ResourcesWrite},
	{path: "/registrations", section: "registrations", get: (*visit).showRegistrations},
	{path: "/registrations/new", section: "registrations", get: (*visit).showNewRegistration, post: (*visit).createRegistration, form: true, needs: api.RegistrationsWrite},
	{path: "/registrations/revoke", section: "registrations", get: (*visit).showRevokeRegistration, post: (*visit).revokeRegistration, form: true, needs: api.RegistrationsWrite},
	{path: "/keys", section: "keys", get: (*visit).showKeys},
	{path: "/keys/rotate", section: "keys", get: (*visit).showRotateKeys, post: (*visit).rotateKeys, form: true, needs: api.KeysWrite},
	{path: "/keys/retire", section: "keys", get: (*visit).showRetireKey, post: (*visit).retireKey, form: true, needs: api.KeysWrite},
	{path: "/users", section: "users", get: (*visit).showUsers},
	{path: "/users/new", section: "users", get: (*visit).showNewUser, post: (*visit).createUser, form: true, needs: api.UsersWrite},
	{path: "/users/invite", section: "users", get: (*visit).showInvite, post: (*visit).invite, form: true, needs: api.UsersWrite},
	{path: "/user", section: "users", get: (*visit).showUser},
	{path: "/user/edit", section: "users", get: (*visit).showEditUser, post: (*visit).editUser, form: true, needs: api.UsersWrite},
	{path: "/user/delete", section: "users", get: (*visit).showDeleteUser, post: (*visit).deleteUser, form: true, needs: api.UsersWrite},
	{path: "/user/end", section: "users", get: (*visit).showEndUser, post: (*visit).endUser, form: true, needs: api.SessionsWrite},
	{path: "/user/role", section: "users", back: "/user", post: (*visit).setRole},
	{path: "/user/recovery", section: "users", back: "/user", post: (*visit).createRecovery},
	{path: "/user/methods/remove", section: "users", back: "/user", post: (*visit).removeMethod},
	{path: "/user/sessions/end", section: "users", back: "/user", post: (*visit).endSession},
	{path: "/user/tokens/end", section: "users", back: "/user", post: (*visit).endToken},
	{path: "/user/grants/revoke", section: "users", back: "/user", post: (*visit).revokeGrant},
	{path: "/explanations", section: "explanations", get: (*visit).showExplanations},
	{path: "/explanation", section: "explanations", get: (*visit).showExplanation},
	{path: "/preview", section: "preview", get: (*visit).showPreview},
	{path: "/recordings/begin", section: "explanations", back: "/explanations", post: (*visit).beginRecording},
	{path: "/recordings/end", section: "explanations", back: "/explanations", post: (*visit).endRecording},
	{path: "/health", section: "health", get: (*visit).showHealth},
	{path: "/audit", section: "audit", get: (*visit).showAudit},
	{path: "/messages", section: "messages", get: (*visit).showOutbox},
	{path: "/messages/retry", section: "messages", back: "/messages", post: (*visit).retryMessage},
	{path: "/messages/drop", section: "messages", back: "/messages", post: (*visit).dropMessage},
}

// section is an entry of the navigation.
type section struct {
	name, path, title string
	// needs is a permission without which the entry is not shown; "" for none.
	needs api.Permission
}

var sections = [...]section{
	{"overview", "", "Overview", ""},
	{"clients", "/clients", "Clients", api.ClientsRead},
	{"users", "/users", "Users", api.UsersRead},
	{"health", "/health", "Health", api.HealthRead},
	{"explanations", "/explanations", "Requests", api.ExplanationsRead},
	{"preview", "/preview", "What would they get?", api.ClientsRead},
	{"audit", "/audit", "Audit log", api.AuditRead},
	{"messages", "/messages", "Messages", api.OutboxRead},
	{"scopes", "/scopes", "Scopes", api.ScopesRead},
	{"resources", "/resources", "APIs", api.ResourcesRead},
	{"registrations", "/registrations", "Registrations", api.RegistrationsRead},
	{"keys", "/keys", "Keys", api.KeysRead},
}

// A visit is one request of a user who has signed in.
type visit struct {
	*Console
	page *page
	who  *identity.Session
	// secret is the value of the session cookie, and notice that of the cookie with a notice.
	secret, notice string
	// api calls the management API as the user, who is me.
	api *api.Connection
	me  *api.Whoami
}

// Handles reports whether a path belongs to the console.
func (c *Console) Handles(path string) bool {
	return path == c.base || strings.HasPrefix(path, c.base+"/")
}

// Proofs of the user that changes require: a form is shown if the last one is not older than the first of
// these times, so that there is time to fill it in, and accepted until the second.
const (
	proofForForm   = 15 * time.Minute
	proofForChange = 45 * time.Minute
)

// ServeHTTP serves the pages.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == c.base+c.style.path {
		c.serveStyle(w, r)
		return
	}
	p := c.find(r.URL.Path)
	if p == nil || r.URL.RawPath != "" {
		c.config.Frame.NotFound(w, r)
		return
	}
	handle := p.get
	if r.Method == http.MethodPost {
		handle = p.post
	} else if r.Method != http.MethodGet && r.Method != http.MethodHead {
		handle = nil
	}
	if handle == nil {
		w.Header().Set("Allow", allow(p))
		http.Error(w, "This page does not have this method.", http.StatusMethodNotAllowed)
		return
	}
	if r.Method == http.MethodPost && !c.config.Frame.AcceptForm(w, r) {
		return
	}
	if err := c.serve(w, r, p, handle); err != nil {
		c.config.Frame.Fault(w, r, err)
	}
}

func allow(p *page) string {
	switch {
	case p.post == nil:
		return "GET, HEAD"
	case p.get == nil:
		return "POST"
	}
	return "GET, HEAD, POST"
}

func (c *Console) find(path string) *page {
	rest := strings.TrimSuffix(strings.TrimPrefix(path, c.base), "/")
	for i := range pages {
		if pages[i].path == rest {
			return &pages[i]
		}
	}
	return nil
}

// Route returns the path of the page or file at a path, for metrics; "" for an unknown path.
func (c *Console) Route(path string) string {
	if path == c.base+c.style.path {
		return c.base + "/assets/console.css"
	}
	if p := c.find(path); p != nil {
		return c.base + p.path
	}
	return ""
}

func (c *Console) serve(w http.ResponseWriter, r *http.Request, p *page, handle func(*visit, http.ResponseWriter, *http.Request) error) error {
	who, err := c.config.Frame.SignedIn(r)
	if err != nil {
		return fmt.Errorf("find the sign-in session: %w", err)
	}
	if who == nil {
		c.config.Frame.SignIn(w, returnTo(r, p))
		return nil
	}
	v := &visit{Console: c, page: p, who: who, secret: identity.SessionCookie(r, c.config.Issuer), notice: identity.NoticeCookie(r, c.config.Issuer),
		api: c.config.API.Connect(manage.Caller{UserID: who.User.ID, Address: c.config.RemoteAddr(r)})}
	if v.me, err = v.api.Whoami(r.Context()); err != nil {
		return v.refused(w, err)
	}
	if p.needs != "" && !v.may(p.needs) {
		return v.refused(w, &api.Problem{Status: http.StatusForbidden, Title: "your role does not allow it: it lacks " + string(p.needs)})
	}
	if p.needsProof(r, who, time.Now()) {
		c.config.Frame.Confirm(w, returnTo(r, p))
		return nil
	}
	if err := handle(v, w, r); err != nil {
		return v.refused(w, err)
	}
	return nil
}

// needsProof reports whether the user must prove again who they are before a request.
func (p *page) needsProof(r *http.Request, who *identity.Session, now time.Time) bool {
	switch {
	case r.Method == http.MethodPost:
		return !who.ProvedSince(now.Add(-proofForChange))
	case p.form:
		return !who.ProvedSince(now.Add(-proofForForm))
	}
	return false
}

// returnTo returns the page to which a user comes back after a proof. It is always one that only shows
// something.
func returnTo(r *http.Request, p *page) string {
	path := Path + p.path
	if p.get == nil {
		path = Path + p.back
	}
	id := r.URL.Query().Get("id")
	if r.Method == http.MethodPost {
		id = r.PostForm.Get("id")
	}
	if id != "" {
		path += "?" + url.Values{"id": {id}}.Encode()
	}
	return path
}

// may reports whether the user has a permission.
func (v *visit) may(permission api.Permission) bool {
	for _, have := range v.me.Permissions {
		if have == permission {
			return true
		}
	}
	return false
}

// refused writes the page for an error of the management API, and returns any other error.
func (v *visit) refused(w http.ResponseWriter, err error) error {
	problem, ok := errors.AsType[*api.Problem](err)
	if !ok || problem.Status >= http.StatusInternalServerError {
		return err
	}
	view := refusalView{Title: "This did not work", Text: sentence(problem.Error())}
	switch problem.Status {
	case http.StatusForbidden, http.StatusUnauthorized:
		view.Title = "You may not do this"
		if v.me == nil {
			view.Title = "You do not manage this server"
			view.Text = fmt.Sprintf("You are signed in as %s. An administrator can give this account a role, with the console or with “valetkey users role”.", v.who.User.Username)
		}
	case http.StatusNotFound:
		view.Title, view.Text = "This does not exist", "It may have been deleted in the meantime."
	}
	return v.write(w, problem.Status, "refusal", view.Title, view)
}

type refusalView struct{ Title, Text string }

// sentence makes a sentence of an error of the management API.
func sentence(text string) string {
	if text == "" {
		return ""
	}
	return strings.ToUpper(text[:1]) + strings.TrimSuffix(text[1:], ".") + "."
}
