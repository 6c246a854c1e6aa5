// Command valetkey is an OAuth 2.0 authorization server and OpenID Provider.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/valetkey/valetkey/audit"
	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/manage/api"
)

// The exit codes.
const (
	exitFailed = 1 // the command failed, "demo --check" or "doctor" found a fault, or "check --profile" a client that does not meet it
	exitUsage  = 2 // the command line or a config file is wrong
	exitDiff   = 3 // "plan" or "diff --exit-code" found differences, "audit verify" a changed log, "migrate --dry-run" pending migrations
)

type commandLine struct {
	Demo         demoCommand         `cmd:"" help:"Run a demo: a server, applications and an API on loopback, and every message between them."`
	Serve        serveCommand        `cmd:"" help:"Run the server."`
	Check        checkCommand        `cmd:"" help:"Check a configuration file without starting a server."`
	Doctor       doctorCommand       `cmd:"" help:"Find what is wrong with a running server, its proxy, database and mail, and how to fix it."`
	Health       healthCommand       `cmd:"" help:"Show whether a running server is ready, and what happened in the last hour."`
	Apply        applyCommand        `cmd:"" help:"Write the clients, users, scopes and resources of files to a database."`
	Plan         planCommand         `cmd:"" help:"Show what apply would change, who changed it last, and whom it affects."`
	Diff         diffCommand         `cmd:"" help:"Show what apply would change."`
	Registration registrationCommand `cmd:"" help:"Manage initial access tokens for dynamic client registration."`
	Audit        auditCommand        `cmd:"" help:"Search, verify and export the log of who changed what."`
	Migrate      migrateCommand      `cmd:"" help:"Bring a database to the schema of this program, or show what that would do."`
	Backup       backupCommand       `cmd:"" help:"Copy the database of a running server to a file (SQLite)."`
	Restore      restoreCommand      `cmd:"" help:"Put a backup in place, after checking it (SQLite)."`
	Explain      explainCommand      `cmd:"" help:"Explain why a request was refused, given the reference in the error."`
	Keys         keysCommand         `cmd:"" help:"List or rotate the signing keys."`
	Masterkey    masterKeyCommand    `cmd:"" help:"Rotate the master key."`
	Users        usersCommand        `cmd:"" help:"List, show, invite, disable and delete users, and set their passwords."`
	Grants       grantsCommand       `cmd:"" help:"List and revoke what users have allowed applications."`
	Sessions     sessionsCommand     `cmd:"" help:"List and end the sessions of a user."`
	Login        loginCommand        `cmd:"" help:"Sign in to the management API of a server, for the other commands."`
	Logout       logoutCommand       `cmd:"" help:"Forget the sign-in, and revoke its tokens."`
	API          apiCommand          `cmd:"" name:"api" help:"Send any request to the management API of a server."`
	MCP          mcpCommand          `cmd:"" name:"mcp" help:"Serve the management API to an agent, as an MCP server."`
	Mail         mailCommand         `cmd:"" help:"Send a test message."`
	Directory    directoryCommand    `cmd:"" help:"Test the connection to an LDAP directory, and the sign-in of a user."`
	Clients      clientsCommand      `cmd:"" help:"List and show clients."`
	HashPassword hashPasswordCommand `cmd:"" name:"hash-password" help:"Print the hash of a password for a configuration file."`
	Revoke       revokeCommand       `cmd:"" help:"Sign a user out on all devices and revoke all tokens and consents."`
	Token        tokenCommand        `cmd:"" help:"Get a token from an authorization server, by any grant."`
	Call         callCommand         `cmd:"" help:"Call an API with the token."`
	Version      versionCommand      `cmd:"" help:"Print the version."`
	Completion   completionCommand   `cmd:"" help:"Print a completion script for a shell."`
}

// serveLine is the part of commandLine that starts a server. The description of all commands takes
// milliseconds to build, and memory as long as the server runs.
type serveLine struct {
	Serve serveCommand `cmd:"" help:"Run the server."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ownProcess = true
	os.Exit(profiled(func() int { return run(ctx, os.Args[1:], os.Stdout, os.Stderr) }))
}

// ownProcess says that this process runs one command and nothing else, so serve may restrict it. Tests
// run commands in their own process.
var ownProcess bool

// output is where a command writes.
type output struct {
	out, log io.Writer
}

func run(ctx context.Context, args []string, out, log io.Writer) int {
	exit := -1
	options := []kong.Option{
		kong.Name("valetkey"),
		kong.Description("An OAuth 2.0 authorization server and OpenID Provider in one binary.\n\nExamples:\n" +
			"  valetkey demo                      everything at once, without configuration\n" +
			"  valetkey serve                     a server on 127.0.0.1:8080 with its data in ./valetkey.db\n" +
			"  valetkey serve --config valetkey.yaml\n" +
			"  valetkey diff clients.yaml && valetkey apply clients.yaml\n" +
			"  valetkey explain 7K3M-2QXA         why a request was refused\n" +
			"  valetkey token --issuer https://login.example.com --client-id cli --dpop\n" +
			"  valetkey call https://api.example.com/albums\n" +
			"  valetkey users set-password ada    set a new password for a user\n" +
			"  valetkey login https://login.example.com && valetkey clients list\n\n" +
			"Exit codes: 0 success, 1 failure (also: check --profile found a client that does not meet it), 2 invalid usage or configuration, 3 differences (plan, diff --exit-code, audit verify) or pending migrations (migrate --dry-run)."),
		kong.Vars{"profiles": strings.Join(authserver.Profiles(), ", ")},
		kong.Writers(out, log),
		kong.Exit(func(code int) { exit = code }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.BindTo(audit.WithActor(ctx, operatorActor()), (*context.Context)(nil)),
		kong.Bind(&output{out, log}),
	}
	switch command := parseServe(args, options); {
	case exit >= 0: // a help that parseServe does not know
		return exit
	case command != nil:
		return result(command.Run(), log)
	}
	var cli commandLine
	parser, err := kong.New(&cli, options...)
	if err != nil {
		fmt.Fprintln(log, "valetkey:", err)
		return exitFailed
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	command, err := parser.Parse(args)
	if exit >= 0 { // --help
		return exit
	}
	if err != nil {
		fmt.Fprintf(log, "valetkey: %v\nRun \"valetkey --help\" for usage.\n", err)
		return exitUsage
	}
	return result(command.Run(&cli, parser.Model), log)
}

// parseServe returns the command that starts a server; nil if the command line is another one, asks for
// help, or is wrong.
func parseServe(args []string, options []kong.Option) *kong.Context {
	help := func(arg string) bool { return arg == "--help" || arg == "-h" }
	if len(args) == 0 || args[0] != "serve" || slices.ContainsFunc(args, help) {
		return nil
	}
	parser, err := kong.New(&serveLine{}, options...)
	if err != nil {
		return nil
	}
	command, err := parser.Parse(args)
	if err != nil {
		return nil
	}
	return command
}

// result writes the error of a command, and returns the exit code.
func result(err error, log io.Writer) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errDifferent):
		return exitDiff
	}
	fmt.Fprintln(log, "valetkey:", err)
	if api.StatusOf(err) == http.StatusUnauthorized {
		fmt.Fprintln(log, "If your login has ended, run \"valetkey login\" again.")
	}
	if errors.As(err, new(usageError)) {
		return exitUsage
	}
	return exitFailed
}

// usageError is an error in the command line or a configuration file.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }
