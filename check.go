package valetkey

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/valetkey/valetkey/internal/database"
	"github.com/valetkey/valetkey/mail"
	"github.com/valetkey/valetkey/ui"
)

// CheckFiles reports what would keep a server from starting besides the text of its
// configuration: the files that it names, the master key, and the database URL. It changes
// nothing and connects to nothing.
func (config Config) CheckFiles() error {
	var problems []error
	if config.TLS != nil {
		if _, err := tls.LoadX509KeyPair(config.TLS.Certificate, config.TLS.Key); err != nil {
			problems = append(problems, fmt.Errorf("tls: %w", err))
		}
	}
	if files := config.MutualTLS.Certificate(config.TLS); files != nil && files != config.TLS {
		if _, err := tls.LoadX509KeyPair(files.Certificate, files.Key); err != nil {
			problems = append(problems, fmt.Errorf("mutual_tls.tls: %w", err))
		}
	}
	for i, provider := range config.IdentityProviders {
		if err := provider.CheckFiles(); err != nil {
			problems = append(problems, fmt.Errorf("identity_providers[%d]: %w", i, err))
		}
	}
	for i, d := range config.Directories {
		if err := d.CheckFiles(); err != nil {
			problems = append(problems, fmt.Errorf("directories[%d]: %w", i, err))
		}
	}
	if err := database.Check(&config.Configuration); err != nil {
		problems = append(problems, fmt.Errorf("database: %w", err))
	}
	if err := config.checkMail(); err != nil {
		problems = append(problems, err)
	}
	if config.Mail != nil {
		if _, err := config.Mail.Server(&config.Outgoing); err != nil {
			problems = append(problems, err)
		}
		if _, err := mail.ReadTemplates(config.Mail.Templates); err != nil {
			problems = append(problems, fmt.Errorf("mail.templates: %w", err))
		}
	}
	if _, _, err := config.LoadTheme(); err != nil {
		problems = append(problems, err)
	}
	if err := ui.CheckTemplates(config.PageTemplates); err != nil {
		problems = append(problems, fmt.Errorf("page_templates: %w", err))
	}
	if _, err := config.Engine(); err != nil {
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

// checkMail is like configuration.CheckMail, for a program that may deliver messages itself.
func (config Config) checkMail() error {
	if config.OnMail != nil {
		return nil
	}
	return config.Configuration.CheckMail()
}

// Check reports why New would refuse a configuration, as far as that can be known without the
// database: it assembles the server with an empty database in memory.
func (config Config) Check(ctx context.Context) error {
	if err := config.CheckFiles(); err != nil {
		return err
	}
	config.Database, config.Source, config.Logger = "sqlite::memory:", "", slog.New(slog.DiscardHandler)
	s, err := newServer(config)
	if err != nil {
		return err
	}
	// Hashing the passwords of many users takes minutes. Whether they are valid was checked
	// when the configuration was read.
	s.config.Users = slices.Clone(s.config.Users)
	for i := range s.config.Users {
		u := &s.config.Users[i]
		if u.Password != "" {
			u.Password, u.PasswordFile, u.PasswordHash = "", "", ""
		}
	}
	err = s.wire(ctx)
	return errors.Join(err, s.declared.conflict, s.closeParts())
}
