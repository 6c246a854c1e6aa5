package main

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"github.com/valetkey/valetkey"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/doctor"
)

type doctorCommand struct {
	Server doctorServerCommand `cmd:"" default:"withargs" help:"Check a server (the default)."`
	MCP    doctorMCPCommand    `cmd:"" name:"mcp" help:"Check whether agents find their way from an MCP server to a token."`
}

// Help is shown by "valetkey doctor --help".
func (doctorCommand) Help() string {
	return "Looks at a server from outside, as browsers and clients see it, and with --config also from inside: " +
		"TLS, the clock, what the proxy changes, cookies, metadata, CORS, keys, signatures, the database, the disk, mail, and who can read secrets. " +
		"It changes nothing, sends no message, prints no secret, and takes at most a minute. docs/guides/doctor.md lists all findings.\n\n" +
		"Exit codes: 0 no error and no warning, 1 findings, 2 invalid usage.\n\n" +
		"Examples:\n  sudo -u valetkey valetkey doctor --config /etc/valetkey/valetkey.yaml\n" +
		"  valetkey doctor https://login.example.com\n  valetkey doctor mcp https://notes.example.com/mcp"
}

// doctorFlags are those of both commands.
type doctorFlags struct {
	JSON      bool   `help:"Print JSON."`
	CA        string `help:"File with certificate authorities to trust, in PEM, instead of the system's." name:"ca" type:"existingfile" placeholder:"FILE"`
	ConnectTo string `help:"Connect to this address instead of the one that the name resolves to." name:"connect-to" placeholder:"HOST:PORT"`
}

func (f *doctorFlags) options() (doctor.Options, error) {
	o := doctor.Options{ConnectTo: f.ConnectTo, Version: valetkey.Version}
	if f.ConnectTo != "" {
		if _, _, err := net.SplitHostPort(f.ConnectTo); err != nil {
			return o, usageError{fmt.Errorf("--connect-to: %q is not an address with a port, such as 192.0.2.1:443", f.ConnectTo)}
		}
	}
	if f.CA == "" {
		return o, nil
	}
	text, err := os.ReadFile(f.CA)
	if err != nil {
		return o, usageError{fmt.Errorf("--ca: %w", err)}
	}
	o.Roots = x509.NewCertPool()
	if !o.Roots.AppendCertsFromPEM(text) {
		return o, usageError{fmt.Errorf("--ca: %s contains no certificate in PEM format", f.CA)}
	}
	return o, nil
}

type doctorServerCommand struct {
	doctorFlags `embed:""`
	URL         string `arg:"" optional:"" help:"The issuer (default: that of the configuration)."`
	Config      string `help:"Configuration file of the server, to look from inside too." type:"existingfile" placeholder:"FILE"`
	HTTPPort    int    `help:"Port on which the proxy redirects http to https (default: 80 if the issuer has no port)." name:"http-port" placeholder:"PORT"`
}

// Run checks a server.
func (c *doctorServerCommand) Run(ctx context.Context, o *output) error {
	options, err := c.options()
	if err != nil {
		return err
	}
	options.HTTPPort = c.HTTPPort
	environment, err := configuration.FromEnvironment()
	if err != nil {
		return usageError{err}
	}
	if c.Config != "" || c.URL == "" && environment.Issuer != "" {
		serve := serveCommand{Config: c.Config}
		config, err := serve.configuration()
		if err != nil {
			return err
		}
		options.Configuration, options.ConfigurationFile, options.Issuer = &config, c.Config, config.Issuer
		options.CheckFiles = valetkey.Config{Configuration: config}.CheckFiles
	}
	options.Issuer = cmp.Or(c.URL, options.Issuer)
	if options.Issuer == "" {
		return usageError{errors.New("nothing to check: pass the issuer's URL, or --config with the configuration of the server")}
	}
	report, err := doctor.Run(ctx, options)
	if err != nil {
		return usageError{err}
	}
	return c.print(o, report)
}

type doctorMCPCommand struct {
	doctorFlags `embed:""`
	URL         string `arg:"" help:"The URL of the MCP server, as users give it to their agents."`
	ClientID    string `help:"The client_id of an agent that has a metadata document, to try an authorization as that agent." name:"client-id" placeholder:"URL"`
}

// Run checks an MCP server.
func (c *doctorMCPCommand) Run(ctx context.Context, o *output) error {
	options, err := c.options()
	if err != nil {
		return err
	}
	report, err := doctor.RunMCP(ctx, c.URL, c.ClientID, options)
	if err != nil {
		return usageError{err}
	}
	return c.print(o, report)
}

// errFindings is the result if there are errors or warnings.
var errFindings = errors.New("something is wrong")

func (f *doctorFlags) print(o *output, report *doctor.Report) error {
	if f.JSON {
		if err := printJSON(o.out, report); err != nil {
			return err
		}
	} else {
		printReport(o.out, report)
	}
	if !report.Healthy() {
		return errFindings
	}
	return nil
}

func printReport(w io.Writer, report *doctor.Report) {
	fmt.Fprintf(w, "%s\n\n", report.Target)
	for _, f := range report.Findings {
		fmt.Fprintf(w, "%-8s %s: %s\n", f.Severity, f.Name, f.Title)
		fmt.Fprintf(w, "  seen:  %s\n  fix:   %s\n\n", f.Seen, f.Fix)
	}
	if len(report.Passed) > 0 {
		fmt.Fprintf(w, "passed:  %s\n", strings.Join(report.Passed, ", "))
	}
	for _, s := range report.Skipped {
		fmt.Fprintf(w, "skipped: %s (%s)\n", s.Check, s.Why)
	}
}
