package ui

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/identity/directory"
	"github.com/valetkey/valetkey/identity/passkey"
	"github.com/valetkey/valetkey/identity/upstream"
	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/storage/record"
	"github.com/valetkey/valetkey/ui/theme"
)

// Config configures the pages of an issuer.
type Config struct {
	// Issuer is the issuer identifier; all pages are below it.
	Issuer   string
	Accounts *identity.Accounts
	// Store is the engine's store, for the applications on the account page.
	Store record.Store
	// Name is the name of the service; "" means Valetkey.
	Name string
	// Theme is how the pages look; nil means the built-in theme. ClientThemes are the themes for the
	// pages of some clients, by client_id.
	Theme        *theme.Loaded
	ClientThemes map[string]*theme.Loaded
	// PageTemplates is a directory with templates that replace the built-in ones; "" for none.
	PageTemplates string
	// SignUp lets users create their own accounts. SignUpRequires is what they need:
	// SignUpInvitation, SignUpEmailDomain, or nothing. SignUpEmailDomains are the domains of their
	// addresses.
	SignUp             bool
	SignUpRequires     string
	SignUpEmailDomains []string
	// PasswordReset lets users who have forgotten their password choose another with a message.
	// identity.Config.Mail must be set, and identity.Config.Pages to MailedPages().
	PasswordReset bool
	// EmailSignIn lets users sign in with a message to their verified address instead of the password.
	// identity.Config.Mail must be set.
	EmailSignIn bool
	// Passkeys verifies passkeys; nil means that there are none. RelatedOrigins are the other origins
	// that may use passkeys of its RP ID.
	Passkeys       *passkey.RelyingParty
	RelatedOrigins []string
	// Upstream are the other providers that users sign in with; nil if there are none.
	Upstream *upstream.Providers
	// Directories are the directories at which users sign in with their passwords there; nil if there are
	// none.
	Directories *directory.Directories
	// NoPasswords turns off sign-in with passwords. Upstream is then the way to sign in.
	NoPasswords bool
	// Contact is where users who may not sign in can ask for help: an email address or an https URL. The
	// contacts of a client come first.
	Contact string
	// OptionalUnticked makes the consent page show optional scopes unticked, unless the user
	// has allowed them before.
	OptionalUnticked bool
	// UsernameChange lets users change their usernames. DeletionGrace lets them delete their accounts,
	// which are erased that long after the request; zero means that they cannot.
	UsernameChange bool
	DeletionGrace  time.Duration
	// Location returns the approximate place of an address in a language (BCP 47), and "" if it is not
	// known; nil if there is no database of places.
	Location func(address netip.Addr, language string) string
	// RemoteAddr returns the address of the browser behind trusted proxies; nil means
	// r.RemoteAddr.
	RemoteAddr func(r *http.Request) netip.Addr
	// Logger receives internal errors and events; nil means slog.Default().
	Logger *slog.Logger
}

// UI has the pages, and implements authserver.Users. The engine is created with it, and
// Handler then serves the pages for that engine. All methods are safe for concurrent use.
type UI struct {
	config    Config
	log       *slog.Logger
	events    *event.Log
	base      string // path of the issuer, without a final slash
	origin    string // scheme and host of the issuer
	host      string
	secure    bool
	assets    map[string]asset
	templates templates
	looks     looks
	crossSite http.CrossOriginProtection
}

// New returns the pages of an issuer.
func New(config Config) (*UI, error) {
	issuer, err := url.Parse(config.Issuer)
	if err != nil || issuer.Host == "" {
		return nil, fmt.Errorf("ui: the issuer %q is not a valid URL", config.Issuer)
	}
	if config.Accounts == nil || config.Store == nil {
		return nil, errors.New("ui: Config.Accounts and Config.Store are required")
	}
	if (config.PasswordReset || config.EmailSignIn || config.SignUpRequires == SignUpEmailDomain) && !config.Accounts.CanMail() {
		return nil, errors.New("ui: Config.PasswordReset, EmailSignIn and SignUpEmailDomain require identity.Config.Mail")
	}
	config.Name = cmp.Or(cleanName(config.Name), "Valetkey")
	if config.RemoteAddr == nil {
		config.RemoteAddr = remoteAddr
	}
	u := &UI{
		config: config,
		log:    config.Logger,
		base:   strings.TrimSuffix(issuer.Path, "/"),
		origin: issuer.Scheme + "://" + issuer.Host,
		host:   issuer.Host,
		secure: issuer.Scheme == "https",
	}
	if u.log == nil {
		u.log = slog.Default()
	}
	u.events = event.New(u.log)
	// A reverse proxy may pass on another Host than the one that browsers see.
	if err := u.crossSite.AddTrustedOrigin(u.origin); err != nil {
		return nil, fmt.Errorf("ui: origin of the issuer: %w", err)
	}
	u.templates.directory = config.PageTemplates
	return u, u.loadAssets()
}

// page is an entry of the table of pages. An error that a handler returns is an internal
// error: it is logged, and the browser gets the page for a server error.
type page struct {
	path string // below the issuer
	get  func(*session, http.ResponseWriter, *http.Request) error
	post func(*session, http.ResponseWriter, *http.Request) error
}

// pages is the table of pages. Only a POST changes anything.
var pages = [...]page{
	{"/", (*session).home, nil},
	{"/sign-in", (*session).showSignIn, (*session).signIn},
	{factorPath, (*session).showFactor, (*session).nothingToProve},
	{enrolPath, (*session).showEnrol, nil},
	{proveTOTPPath, (*session).showProveTOTP, (*session).proveTOTP},
	{proveRecoveryCodePath, (*session).showProveRecoveryCode, (*session).proveRecoveryCode},
	{signInEmailPath, (*session).showEmailSignIn, (*session).requestEmailSignIn},
	{signInEmailCodePath, (*session).showEmailSignInCode, (*session).emailSignInCode},
	{signInEmailLinkPath, (*session).showEmailSignInLink, (*session).emailSignInLink},
	{fewCodesPath, (*session).showFewCodes, nil},
	{passkeyPath, (*session).showConfirmPasskey, (*session).signInPasskey},
	{passkeyOptionsPath, nil, (*session).passkeyOptions},
	{upgradePath, (*session).showUpgrade, (*session).upgrade},
	{"/cancel", nil, (*session).cancel},
	{upstreamStartPath, nil, (*session).startUpstream},
	{"/select-account", nil, (*session).selectAccount},
	{SignUpPath, (*session).showSignUp, (*session).signUp},
	{SignUpPath + "/email", nil, (*session).signUpEmail},
	{forgotPath, (*session).showForgot, (*session).forgot},
	{resetPath, (*session).showReset, (*session).reset},
	{confirmEmailPath, (*session).showConfirmEmail, (*session).confirmEmail},
	{recoverPath, (*session).showRecover, (*session).recover},
	{recoveryPath, (*session).showRecovery, (*session).requestRecovery},
	{beginRecoveryPath, (*session).showBeginRecovery, (*session).beginRecovery},
	{stopRecoveryPath, (*session).showStopRecovery, (*session).stopRecovery},
	{pendingRecoveryPath, (*session).showPendingRecovery, nil},
	{keepAccountPath, nil, (*session).keepAccount},
	{undoEmailPath, (*session).showUndoEmail, (*session).undoEmail},
	{"/consent", (*session).showConsent, (*session).consent},
	{devicePath, (*session).showDevice, (*session).device},
	{approvePath, (*session).showApprove, (*session).deny},
	{"/logo", (*session).showLogo, nil},
	{"/sign-out", (*session).showSignOut, (*session).signOut},
	{"/signed-out", (*session).signedOut, nil},
	{"/account", (*session).showAccount, nil},
	{confirmPath, (*session).showConfirm, (*session).confirmPassword},
	{"/account/password", (*session).showPassword, (*session).changePassword},
	{removePasswordPath, nil, (*session).removePassword},
	{totpPath, (*session).showTOTP, nil},
	{newTOTPPath, (*session).showNewTOTP, (*session).confirmTOTP},
	{totpPath + "/remove", nil, (*session).removeTOTP},
	{totpPath + "/rename", nil, (*session).renameTOTP},
	{recoveryCodesPath, (*session).showRecoveryCodes, (*session).newRecoveryCodes},
	{recoveryCodesPath + "/download", nil, (*session).downloadRecoveryCodes},
	{passkeysPath, (*session).showPasskeys, (*session).addPasskey},
	{passkeysPath + "/rename", nil, (*session).renamePasskey},
	{passkeysPath + "/remove", nil, (*session).removePasskey},
	{linkedPath, (*session).showLinked, (*session).changeLinked},
	{"/account/email", (*session).showEmail, (*session).requestEmail},
	{"/account/email/code", (*session).showEmailCode, (*session).emailCode},
	{"/account/language", nil, (*session).setLanguage},
	{userCodePath, (*session).showUserCode, (*session).changeUserCode},
	{"/account/applications/revoke", nil, (*session).revoke},
	{"/account/sessions/end", nil, (*session).endSession},
	{"/account/sessions/end-all", nil, (*session).endSessions},
	{"/account/sessions/end-others", nil, (*session).endOthers},
	{wasntMePath, (*session).showWasntMe, (*session).wasntMe},
	{usernamePath, (*session).showUsername, (*session).changeUsername},
	{exportPath, (*session).showExport, (*session).export},
	{deletePath, (*session).showDelete, (*session).deleteAccount},
	{restorePath, (*session).showRestore, (*session).restore},
	{"/setup", (*session).showSetup, (*session).setUp},
}

// find returns the page or the asset at a path, which includes the issuer's path.
func (u *UI) find(path string) (*page, *asset) {
	rest, ok := strings.CutPrefix(path, u.base)
	if !ok {
		return nil, nil
	}
	if a, ok := u.assets[rest]; ok {
		return nil, &a
	}
	for i := range pages {
		if pages[i].path == rest || rest == "" && pages[i].path == "/" {
			return &pages[i], nil
		}
	}
	return nil, nil
}

// Route returns the pattern of the page or asset at a path, for telemetry; "" if there is none. There
// are few patterns.
func (u *UI) Route(path string) string {
	page, asset := u.find(path)
	switch {
	case page != nil:
		return u.base + page.path
	case asset != nil:
		return u.base + "/assets/{name}"
	case path == changePasswordPath, path == passkeyEndpointsPath, path == relatedOriginsPath:
		return path
	}
	rest, found := strings.CutPrefix(path, u.base+upstreamPath)
	id, action, below := strings.Cut(rest, "/")
	if !found || !below || u.config.Upstream.Provider(id) == nil {
		return ""
	}
	switch action {
	case "logo", "backchannel-logout", "callback":
		return u.base + upstreamPath + "{provider}/" + action
	}
	return ""
}

// Handler serves the pages of an engine, and a "not found" page for any other path. Paths are
// compared without cleaning.
func (u *UI) Handler(server *authserver.Server) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		page, asset := u.find(r.URL.Path)
		switch {
		case u.wellKnown(w, r):
		case r.URL.RawPath != "":
			u.NotFound(w, r)
		case page == nil && asset == nil:
			if !u.serveUpstream(w, r, server) {
				u.NotFound(w, r)
			}
		case asset != nil:
			u.serveAsset(w, r, asset)
		default:
			u.serve(w, r, server, page)
		}
	})
}

func (u *UI) serve(w http.ResponseWriter, r *http.Request, server *authserver.Server, p *page) {
	var handle func(*session, http.ResponseWriter, *http.Request) error
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		handle = p.get
	case http.MethodPost:
		handle = p.post
	}
	if handle == nil {
		u.methodNotAllowed(w, r, p)
		return
	}
	if r.Method == http.MethodPost && !u.acceptForm(w, r) {
		return
	}
	s, err := u.open(r, server)
	switch {
	case err != nil:
	case s.mustRestore(p):
		err = s.redirect(w, restorePath+waitingParams(r).query())
	default:
		r = withLanguage(r, s)
		err = handle(s, w, r)
	}
	if err != nil {
		u.fault(w, r, err)
	}
}

func remoteAddr(r *http.Request) netip.Addr {
	addr, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return addr.Addr().Unmap()
}
