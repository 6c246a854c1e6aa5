package valetkey

import (
	"context"
	"fmt"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/internal/database"
	"github.com/valetkey/valetkey/ui"
)

// wire opens the database, applies the declarations, and connects accounts, pages and
// engine.
func (s *Server) wire(ctx context.Context) (err error) {
	if s.store, err = database.Open(ctx, &s.config.Configuration, s.log); err != nil {
		return err
	}
	if err := s.applyAtStart(ctx); err != nil {
		return err
	}
	if err := s.warnOfHooks(ctx); err != nil {
		return err
	}
	if s.accounts, err = s.newAccounts(); err != nil {
		return fmt.Errorf("set up sign-in: %w", err)
	}
	pages, err := s.newPages()
	if err != nil {
		return fmt.Errorf("set up pages: %w", err)
	}
	if s.engine, err = s.newEngine(pages); err != nil {
		return fmt.Errorf("set up the engine: %w", err)
	}
	s.pages, s.notFound = pages.Handler(s.engine), pages.NotFound
	return nil
}

func (s *Server) newAccounts() (*identity.Accounts, error) {
	secret, err := database.Derive(s.store.Secret, "valetkey unknown accounts")
	if err != nil {
		return nil, err
	}
	return identity.New(identity.Config{
		Store:           s.store,
		Logger:          s.log,
		SessionLifetime: time.Duration(s.config.Lifetimes.Session),
		Secret:          secret,
	})
}

func (s *Server) newPages() (*ui.UI, error) {
	return ui.New(ui.Config{
		Issuer:           s.config.Issuer,
		Accounts:         s.accounts,
		Store:            s.store,
		Name:             s.config.ServiceName,
		SignUp:           s.config.SignUp,
		OptionalUnticked: s.config.ConsentOptionalDefault == configuration.ConsentUnticked,
		RemoteAddr:       s.proxies.Of,
		Logger:           s.log,
	})
}

func (s *Server) newEngine(pages *ui.UI) (*authserver.Server, error) {
	engine, err := s.config.Engine()
	if err != nil {
		return nil, err
	}
	engine.Store = s.store
	engine.Secret = s.store.Secret
	engine.Users = pages
	engine.Pages.Error = pages.ErrorPage
	if s.config.SignUp {
		engine.Pages.SignUp = ui.SignUpPath
	}
	engine.SignIn.ACRValues = []string{ui.ACRPassword}
	engine.SignIn.BrowserStateCookie = identity.BrowserStateCookie(s.config.Issuer)
	engine.Hooks.TokenClaims = s.config.TokenClaims
	engine.Hooks.GrantTypes = s.config.GrantTypes
	engine.RemoteAddr = s.proxies.Of
	engine.Logger = s.log
	engine.OnTrace = s.config.OnTrace
	return authserver.New(engine)
}
