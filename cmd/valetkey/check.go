package main

import (
	"context"
	"fmt"

	"github.com/valetkey/valetkey"
)

type checkCommand struct {
	File     string `arg:"" help:"Configuration file." type:"existingfile"`
	Listen   string `help:"Value of --listen for serve." placeholder:"ADDR"`
	Issuer   string `help:"Value of --issuer for serve." placeholder:"URL"`
	Database string `help:"Value of --database for serve." placeholder:"URL"`
}

// Help is shown by "valetkey check --help".
func (checkCommand) Help() string {
	return "Reports what would keep serve from starting: errors in the file, unusable files that it names " +
		"(certificates, secrets, the master key), and settings that contradict each other. " +
		"Changes nothing and does not open the database.\n\nExample: valetkey check valetkey.yaml"
}

// Run checks a file.
func (c *checkCommand) Run(ctx context.Context, o *output) error {
	serve := serveCommand{Config: c.File, Listen: c.Listen, Issuer: c.Issuer, Database: c.Database}
	config, err := serve.configuration()
	if err != nil {
		return err
	}
	for _, recommendation := range config.Declarations.Recommendations() {
		fmt.Fprintln(o.log, "recommended:", recommendation)
	}
	for _, warning := range config.Declarations.Warnings() {
		fmt.Fprintln(o.log, "warning:", warning)
	}
	if err := (valetkey.Config{Configuration: config}).Check(ctx); err != nil {
		return usageError{err}
	}
	fmt.Fprintf(o.out, "%s is valid: clients %d, users %d, scopes %d, resources %d\n", c.File,
		len(config.Clients), len(config.Users), len(config.Scopes), len(config.Resources))
	return nil
}
