package useradmin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/internal/database"
	"github.com/valetkey/valetkey/mail"
)

// MailConfig returns the configuration of the outbox for messages to users. Without a mail server,
// messages are written to the log.
func MailConfig(store *database.Database, c *configuration.Configuration, log *slog.Logger) (config mail.Config, err error) {
	config = mail.Config{Store: store.Mail(), Base: c.Issuer, Service: c.ServiceName, From: "noreply@localhost", Deliver: mail.ToLog(log), Logger: log}
	if config.Key, err = database.Derive(store.Secret, database.MailPurpose); err != nil {
		return config, err
	}
	if c.Theme != nil {
		if config.Theme, err = c.Theme.WithoutFiles(); err != nil {
			return config, fmt.Errorf("theme.%w", err)
		}
	}
	if c.Mail == nil {
		return config, nil
	}
	if config.From, err = mail.ParseFrom(c.Mail.From); err != nil {
		return config, fmt.Errorf("mail.from: %w", err)
	}
	if config.Templates, err = mail.ReadTemplates(c.Mail.Templates); err != nil {
		return config, fmt.Errorf("mail.templates: %w", err)
	}
	server, err := c.Mail.Server(&c.Outgoing)
	if err != nil {
		return config, err
	}
	config.Deliver = server.Deliver
	return config, nil
}

// ErrNoMail means that the configuration has no mail server.
var ErrNoMail = errors.New("the configuration has no mail server: set mail.smtp, or leave out the address")

// Invite stores an invitation to sign up and returns its URL. If email is not "", a server on the
// database sends the invitation to that address instead, and the URL is "".
func Invite(ctx context.Context, store *database.Database, c *configuration.Configuration, email string, lifetime time.Duration, path func(token string) string) (string, error) {
	config := identity.Config{Store: store, Logger: slog.New(slog.DiscardHandler)}
	if email != "" {
		if !c.CanMail() {
			return "", ErrNoMail
		}
		outbox, err := MailConfig(store, c, config.Logger)
		if err != nil {
			return "", err
		}
		if config.Mail, err = mail.New(outbox); err != nil {
			return "", err
		}
	}
	accounts, err := identity.New(config)
	if err != nil {
		return "", fmt.Errorf("set up accounts: %w", err)
	}
	token, err := accounts.Invite(ctx, time.Now(), email, lifetime, path)
	if err != nil || token == "" {
		return "", err
	}
	issuer, err := url.Parse(c.Issuer)
	if err != nil || issuer.Host == "" {
		return "", fmt.Errorf("the issuer %q is not a URL", c.Issuer)
	}
	return c.Issuer + path(token), nil
}

// SendTest sends a test message at once and returns the error of the mail server.
func SendTest(ctx context.Context, store *database.Database, c *configuration.Configuration, to string) error {
	if c.Mail == nil {
		return errors.New("the configuration has no mail server: set mail.smtp")
	}
	config, err := MailConfig(store, c, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	outbox, err := mail.New(config)
	if err != nil {
		return err
	}
	return outbox.SendNow(ctx, time.Now(), mail.Message{Kind: mail.KindTest, To: to})
}
