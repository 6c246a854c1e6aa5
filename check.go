package valetkey

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/valetkey/valetkey/storage/sqldb"
)

// CheckFiles reports what keeps a server from starting besides the configuration's text:
// files that it names, the master key, and the URL of the database. It changes nothing, and
// connects to nothing.
func (c *Configuration) CheckFiles(ctx context.Context) error {
	var problems []error
	if c.TLS != nil {
		if _, err := tls.LoadX509KeyPair(c.TLS.Certificate, c.TLS.Key); err != nil {
			problems = append(problems, fmt.Errorf("tls: %w", err))
		}
	}
	with := *c
	with.Database = cmp.Or(c.Database, DefaultDatabase)
	err := checkDatabase(with.Database)
	if err == nil {
		err = sqldb.CheckURL(with.Database, c.InsecureDatabaseConnection)
	}
	if err == nil {
		_, _, err = findMasterKey(&with)
	}
	if err != nil {
		problems = append(problems, fmt.Errorf("database: %w", err))
	}
	if _, err := c.Outgoing.engine(); err != nil {
		problems = append(problems, err)
	}
	if _, err := c.webhooks(); err != nil {
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

// Check reports why New would refuse a configuration, as far as that can be known without
// the database: it puts the server together over an empty database in memory.
func (config Config) Check(ctx context.Context) error {
	if err := config.Configuration.CheckFiles(ctx); err != nil {
		return err
	}
	config.Database, config.Source, config.Logger = "sqlite::memory:", "", slog.New(slog.DiscardHandler)
	s, err := newServer(config)
	if err != nil {
		return err
	}
	// Hashing the passwords of many users takes minutes; whether they can be taken was found
	// out when the configuration was validated.
	s.config.Users = slices.Clone(s.config.Users)
	for i := range s.config.Users {
		u := &s.config.Users[i]
		if u.Password != "" {
			u.Password, u.PasswordFile, u.PasswordHash = "", "", ""
		}
	}
	key := make([]byte, masterKeyBytes)
	rand.Read(key)
	err = s.open(ctx, key)
	return errors.Join(err, s.declared.conflict, s.closeParts())
}
