package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/valetkey/valetkey"
	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/configuration"
)

type checkCommand struct {
	File     string   `arg:"" help:"Configuration file." type:"existingfile"`
	Profile  string   `help:"Compare the clients with a profile, requirement by requirement, as if they had it: ${profiles}." placeholder:"NAME"`
	Client   []string `help:"Compare this client only, requirement by requirement. Can be repeated." placeholder:"ID"`
	JSON     bool     `help:"Print JSON."`
	Listen   string   `help:"Value of --listen for serve." placeholder:"ADDR"`
	Issuer   string   `help:"Value of --issuer for serve." placeholder:"URL"`
	Database string   `help:"Value of --database for serve." placeholder:"URL"`
}

// Help is shown by "valetkey check --help".
func (checkCommand) Help() string {
	return "Reports what would keep serve from starting: errors in the file, unusable files that it names " +
		"(certificates, secrets, the master key), and settings that contradict each other. For each client, it lists what keeps it " +
		"from meeting its profile, and what RFC 9700 would want changed. " +
		"Changes nothing and does not open the database.\n\n" +
		"Exit codes: 0 the file is valid, 1 a client does not meet the profile in --profile, 2 the file is not valid.\n\n" +
		"Examples:\n  valetkey check valetkey.yaml\n  valetkey check valetkey.yaml --profile fapi2 --client bank"
}

// errNotMet is the result of "check --profile" if a client does not meet the profile.
var errNotMet = errors.New("not all clients meet the profile")

// checkResult is the output of "check --json".
type checkResult struct {
	File            string                       `json:"file"`
	Valid           bool                         `json:"valid"`
	Errors          []string                     `json:"errors,omitempty"`
	Warnings        []string                     `json:"warnings,omitempty"`
	Recommendations []string                     `json:"recommendations,omitempty"`
	Clients         []configuration.ClientReport `json:"clients,omitempty"`
}

// Run checks a file.
func (c *checkCommand) Run(ctx context.Context, o *output) error {
	config, result, err := c.check(ctx)
	if c.JSON {
		if printed := printJSON(o.out, result); printed != nil {
			return printed
		}
	} else if config != nil {
		c.print(o, config, result)
	}
	if err != nil {
		return err
	}
	for _, client := range result.Clients {
		if c.Profile != "" && !client.Met {
			return errNotMet
		}
	}
	return nil
}

// check returns the configuration, nil if it cannot be read.
func (c *checkCommand) check(ctx context.Context) (*configuration.Configuration, checkResult, error) {
	result := checkResult{File: c.File}
	refuse := func(err error) (*configuration.Configuration, checkResult, error) {
		result.Errors = strings.Split(err.Error(), "\n")
		return nil, result, usageError{err}
	}
	if err := authserver.CheckProfile(c.Profile); err != nil {
		return refuse(fmt.Errorf("--profile: %w", err))
	}
	serve := serveCommand{Config: c.File, Listen: c.Listen, Issuer: c.Issuer, Database: c.Database}
	config, err := serve.configuration()
	if err != nil {
		return refuse(err)
	}
	if result.Clients, err = config.Report(c.Profile, c.Client...); err != nil {
		return refuse(fmt.Errorf("--client: %w", err))
	}
	result.Warnings, result.Recommendations = config.Declarations.Warnings(), config.Declarations.Recommendations()
	if err := (valetkey.Config{Configuration: config}).Check(ctx); err != nil {
		result.Errors = strings.Split(err.Error(), "\n")
		return &config, result, usageError{err}
	}
	result.Valid = true
	return &config, result, nil
}

// print prints the result as text.
func (c *checkCommand) print(o *output, config *configuration.Configuration, result checkResult) {
	for _, recommendation := range result.Recommendations {
		fmt.Fprintln(o.log, "recommended:", recommendation)
	}
	for _, warning := range result.Warnings {
		if c.Profile != "" || !strings.Contains(warning, "RFC 9700") { // those are printed with the client
			fmt.Fprintln(o.log, "warning:", warning)
		}
	}
	imposed := false
	for _, client := range result.Clients {
		imposed = c.printClient(o.out, client) || imposed
	}
	if imposed {
		fmt.Fprintln(o.out, "set: the server requires it of each request, so the application must do it")
	}
	if result.Valid {
		fmt.Fprintf(o.out, "%s is valid: clients %d, users %d, scopes %d, resources %d\n", c.File,
			len(config.Clients), len(config.Users), len(config.Scopes), len(config.Resources))
	}
}

// printClient prints what a client does not meet; with --profile or --client, also what it meets. It
// reports whether anything is imposed by the profile.
func (c *checkCommand) printClient(w io.Writer, r configuration.ClientReport) bool {
	all := c.Profile != "" || len(c.Client) > 0
	unmet := 0
	for _, finding := range r.Requirements {
		if !finding.Met {
			unmet++
		}
	}
	switch {
	case unmet > 0:
		fmt.Fprintf(w, "client %s does not meet %s: %d of %d requirements\n", r.ID, r.Profile, unmet, len(r.Requirements))
	case len(r.Requirements) > 0:
		fmt.Fprintf(w, "client %s meets %s: %d requirements\n", r.ID, r.Profile, len(r.Requirements))
	default:
		fmt.Fprintf(w, "client %s has the profile %s\n", r.ID, r.Profile)
	}
	imposed := printFindings(w, r.Requirements, "no", all)
	// With --profile, the question is about that profile only.
	if c.Profile == "" {
		printFindings(w, r.RFC9700, "better", all)
	}
	fmt.Fprintln(w)
	return imposed
}

// printFindings prints one line for each finding, and what to change in the next one. It reports
// whether one is imposed by the profile.
func printFindings(w io.Writer, findings []authserver.ProfileFinding, unmet string, all bool) (imposed bool) {
	width := 0
	for _, finding := range findings {
		if all || !finding.Met {
			width = max(width, utf8.RuneCountInString(finding.Rule))
		}
	}
	for _, finding := range findings {
		mark := "yes"
		switch {
		case !finding.Met:
			mark = unmet
		case !all:
			continue
		case finding.Imposed:
			mark, imposed = "set", true
		}
		fmt.Fprintf(w, "  %-6s  %-*s  %s\n", mark, width, finding.Rule, finding.Section)
		if finding.Problem != "" {
			member := ""
			if finding.Member != "" {
				member = finding.Member + ": "
			}
			fmt.Fprintf(w, "          %s%s\n", member, finding.Problem)
		}
	}
	return imposed
}
