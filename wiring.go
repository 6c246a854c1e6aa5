package valetkey

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/valetkey/valetkey/audit"
	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/console"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/identity/directory"
	"github.com/valetkey/valetkey/identity/upstream"
	"github.com/valetkey/valetkey/internal/breachedapi"
	"github.com/valetkey/valetkey/internal/database"
	"github.com/valetkey/valetkey/internal/outgoing"
	"github.com/valetkey/valetkey/internal/place"
	"github.com/valetkey/valetkey/internal/useradmin"
	"github.com/valetkey/valetkey/mail"
	"github.com/valetkey/valetkey/manage"
	"github.com/valetkey/valetkey/ui"
)

// wire opens the database, applies the declarations, and connects accounts, pages and
// engine.
func (s *Server) wire(ctx context.Context) (err error) {
	if s.store, err = database.Open(ctx, &s.config.Configuration, s.log); err != nil {
		return err
	}
	if err := s.setUpProbe(); err != nil {
		return err
	}
	if err := s.newAuditing(); err != nil {
		return fmt.Errorf("set up the audit log: %w", err)
	}
	if err := s.applyAtStart(ctx); err != nil {
		return err
	}
	if err := s.warnOfHooks(ctx); err != nil {
		return err
	}
	if s.mail, err = s.newMail(); err != nil {
		return fmt.Errorf("set up mail: %w", err)
	}
	if s.accounts, err = s.newAccounts(); err != nil {
		return fmt.Errorf("set up sign-in: %w", err)
	}
	if s.upstream, err = s.newUpstream(); err != nil {
		return fmt.Errorf("set up identity providers: %w", err)
	}
	if s.directories, err = s.newDirectories(); err != nil {
		return fmt.Errorf("set up directories: %w", err)
	}
	pages, err := s.newPages()
	if err != nil {
		return fmt.Errorf("set up pages: %w", err)
	}
	if s.engine, err = s.newEngine(pages); err != nil {
		return fmt.Errorf("set up the engine: %w", err)
	}
	s.management, err = manage.New(manage.Config{
		Issuer: s.config.Issuer, Version: Version, Store: s.store, Engine: s.engine, RemoteAddr: s.proxies.Of, Logger: s.log,
		Accounts: s.accounts, RecoveryPath: ui.RecoveryPath, InvitationPath: ui.InvitationPath,
		Configuration: &s.config.Configuration, Lifetimes: s.config.Lifetimes.Engine(), File: s.config.File,
		State: s.state, Checks: s.health.get,
		Replay: func(ctx context.Context, webhook string, filter audit.Filter, dryRun bool) (int, string, error) {
			return replaySome(ctx, s.store, &s.config.Audit, webhook, filter, dryRun)
		},
	})
	if err != nil {
		return fmt.Errorf("set up the management API: %w", err)
	}
	s.console, err = console.New(console.Config{Issuer: s.config.Issuer, Frame: pages.Frame(), API: s.management, RemoteAddr: s.proxies.Of, Logger: s.log})
	if err != nil {
		return fmt.Errorf("set up the console: %w", err)
	}
	s.pages, s.pageRoute, s.notFound = pages.Handler(s.engine), pages.Route, pages.NotFound
	return nil
}

// newMail returns the outbox for messages to users; nil if no messages can be sent.
func (s *Server) newMail() (*mail.Outbox, error) {
	if s.config.OnMail == nil && !s.config.CanMail() {
		return nil, nil
	}
	config, err := useradmin.MailConfig(s.store, &s.config.Configuration, s.log)
	if err != nil {
		return nil, err
	}
	if s.config.OnMail != nil {
		config.Deliver = func(_ context.Context, letter *mail.Letter) error {
			s.config.OnMail(letter)
			return nil
		}
	}
	return mail.New(config)
}

func (s *Server) newAccounts() (*identity.Accounts, error) {
	secret, err := database.Derive(s.store.Secret, "valetkey unknown accounts")
	if err != nil {
		return nil, err
	}
	breachedPasswords, err := s.breachedPasswords()
	if err != nil {
		return nil, err
	}
	return identity.New(identity.Config{
		Store:           s.store,
		Logger:          s.log,
		SessionLifetime: time.Duration(s.config.Lifetimes.Session),
		Secret:          secret,
		Mail:            s.mail,
		Pages:           ui.MailedPages(),
		Policy:          s.config.SignIn.Policy(),
		Recovery:        s.config.Recovery.Ways(),
		NoPasswords:     s.config.PasswordSignIn == configuration.PasswordSignInOff,
		NoPasskeys:      s.config.Passkeys.Off,
		Provider: func(id string) bool {
			return slices.ContainsFunc(s.config.IdentityProviders, func(p upstream.Config) bool { return p.ID == id && !p.Disabled }) ||
				slices.ContainsFunc(s.config.Directories, func(d directory.Config) bool { return d.ID == id && !d.Disabled })
		},

		MinPasswordRunes:  s.config.MinimumPasswordLength,
		BreachedPasswords: breachedPasswords,
	})
}

// breachedPasswords returns a function that asks the operator's service for breached passwords; nil
// if there is none.
func (s *Server) breachedPasswords() (func(context.Context, string) (bool, error), error) {
	if s.config.BreachedPasswordService == "" {
		return nil, nil
	}
	o, err := s.config.Outgoing.Engine()
	if err != nil {
		return nil, err
	}
	s.toOperator = outgoing.New(outgoing.Policy{Networks: o.Networks, CertificateAuthorities: o.CertificateAuthorities}, s.events)
	service := breachedapi.Service{URL: s.config.BreachedPasswordService, Client: s.toOperator}
	return service.Contains, nil
}

// defaultDeletedAccount is lifetimes.deleted_account if it is not set.
const defaultDeletedAccount = 14 * 24 * time.Hour

// newUpstream returns the other providers that users sign in with; nil if there are none. Their
// addresses are the operator's, so they may be in the networks that the operator allows.
func (s *Server) newUpstream() (*upstream.Providers, error) {
	if len(s.config.IdentityProviders) == 0 {
		return nil, nil
	}
	o, err := s.config.Outgoing.Engine()
	if err != nil {
		return nil, err
	}
	return upstream.New(s.config.IdentityProviders, upstream.Options{
		Issuer: s.config.Issuer, Store: s.store, Logger: s.log,
		Transport: outgoing.New(outgoing.Policy{
			Networks: o.Networks, CertificateAuthorities: o.CertificateAuthorities, ManyHosts: true,
		}, s.events).Transport(),
	})
}

// newDirectories returns the directories at which users sign in; nil if there are none.
func (s *Server) newDirectories() (*directory.Directories, error) {
	if len(s.config.Directories) == 0 {
		return nil, nil
	}
	return directory.New(s.config.Directories, directory.Options{
		Counts: s.store, Logger: s.log,
		OnAvailability: func(unavailable int) {
			if unavailable == 0 {
				s.SetReadinessDetail("directories")
				return
			}
			s.SetReadinessDetail("directories", fmt.Sprintf("%d of %d do not respond", unavailable, len(s.config.Directories)))
		},
	})
}

func (s *Server) newPages() (*ui.UI, error) {
	look, ofClients, err := s.config.LoadTheme()
	if err != nil {
		return nil, err
	}
	secret, err := database.Derive(s.store.Secret, "valetkey passkey challenges")
	if err != nil {
		return nil, err
	}
	passkeys, err := s.config.RelyingParty(secret)
	if err != nil {
		return nil, err
	}
	var location func(netip.Addr, string) string
	if path := s.config.LocationDatabase; path != "" {
		places, err := place.Open(path)
		if err != nil {
			return nil, fmt.Errorf("location_database: %w", err)
		}
		location = places.Of
	}
	grace := time.Duration(s.config.Lifetimes.DeletedAccount)
	switch {
	case s.config.AccountDeletion == configuration.AccountDeletionOff:
		grace = 0
	case grace <= 0:
		grace = defaultDeletedAccount
	}
	return ui.New(ui.Config{
		Issuer:           s.config.Issuer,
		Accounts:         s.accounts,
		Store:            s.store,
		Name:             s.config.ServiceName,
		Theme:            look,
		ClientThemes:     ofClients,
		PageTemplates:    s.config.PageTemplates,
		SignUp:           s.config.SignUp,
		SignUpRequires:   s.config.SignUpRequires,
		PasswordReset:    s.mail != nil && s.config.PasswordReset != configuration.PasswordResetOff,
		EmailSignIn:      s.config.EmailSignIn,
		Passkeys:         passkeys,
		RelatedOrigins:   s.config.Passkeys.RelatedOrigins,
		UsernameChange:   s.config.UsernameChange,
		DeletionGrace:    grace,
		Location:         location,
		Upstream:         s.upstream,
		Directories:      s.directories,
		NoPasswords:      s.config.PasswordSignIn == configuration.PasswordSignInOff,
		Contact:          s.config.Contact,
		OptionalUnticked: s.config.ConsentOptionalDefault == configuration.ConsentUnticked,
		RemoteAddr:       s.proxies.Of,

		SignUpEmailDomains: s.config.SignUpEmailDomains,
		Logger:             s.log,
	})
}

func (s *Server) newEngine(pages *ui.UI) (*authserver.Server, error) {
	engine, err := s.config.Engine()
	if err != nil {
		return nil, err
	}
	engine.Store = s.store
	engine.Secret = s.store.Secret
	engine.ExternalKeys = s.config.ExternalKeys
	engine.OwnAPI = manage.OwnAPI(s.config.Issuer, s.store, s.config.Management)
	engine.Users = pages
	engine.Pages.Error = pages.ErrorPage
	engine.Pages.UILocales = ui.Locales()
	if s.config.SignUp {
		engine.Pages.SignUp = ui.SignUpPath
	}
	engine.SignIn.ACRValues, engine.SignIn.Policy = pages.ACRValues(), pages
	engine.SignIn.UpstreamLogout = pages.UpstreamLogout
	engine.SignIn.BrowserStateCookie = identity.BrowserStateCookie(s.config.Issuer)
	engine.Hooks.TokenClaims = s.config.TokenClaims
	engine.Hooks.GrantTypes = s.config.GrantTypes
	engine.RemoteAddr = s.proxies.Of
	engine.Logger = s.log
	engine.OnTrace = s.config.OnTrace
	return authserver.New(engine)
}
