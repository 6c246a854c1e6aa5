package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/manage/api"
	"github.com/valetkey/valetkey/oauth"
)

type loginCommand struct {
	Issuer    string        `arg:"" help:"The issuer of the server, such as https://login.example.com."`
	Scope     []string      `help:"What the command line may do, separated by commas, such as clients:read,users:read. The default is everything that your role allows." placeholder:"SCOPE"`
	API       string        `name:"api" help:"Where the management API of the server is, if management.listen is set, such as https://manage.internal.example.com." placeholder:"URL"`
	Device    bool          `help:"Sign in with a browser on another device. The server must allow it (management.command_line: device)."`
	NoBrowser bool          `help:"Print the address of the sign-in page, but open no browser."`
	Timeout   time.Duration `help:"How long to wait for the sign-in." default:"10m"`
}

// Help is shown by "valetkey login --help".
func (loginCommand) Help() string {
	return "Signs you in to the management API of a server. Other commands use it then, unless --config or --database names a database. " +
		"The tokens are bound to a key, and kept in a file of mode 0600 in the directory valetkey/tokens of the user's configuration directory. " +
		"You can be logged in to several servers; --server selects one, and the latest is the default.\n\n" +
		"Examples:\n  valetkey login https://login.example.com\n  valetkey login --scope clients:read,users:read https://login.example.com\n" +
		"  valetkey login --api https://manage.internal.example.com https://login.example.com"
}

// Run signs the user in.
func (c *loginCommand) Run(ctx context.Context, o *output) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	issuer := strings.TrimSuffix(c.Issuer, "/")
	kept := &keptToken{Client: loginFlags(issuer, c.Scope, c.NoBrowser), Grant: oauth.GrantTypeAuthorizationCode, API: apiBase(cmp.Or(c.API, os.Getenv(configuration.APIVariable)))}
	oauthClient, err := kept.Client.discoverWith(ctx, "")
	if err != nil {
		return err
	}
	if c.Device {
		kept.Grant = grantDevice
		kept.Tokens, err = device(ctx, o, oauthClient)
	} else {
		kept.Tokens, err = kept.Client.signIn(ctx, o, oauthClient, signIn{})
	}
	if err != nil {
		if c.Device {
			return fmt.Errorf("%w\nThe server allows this only with management.command_line: device in its configuration", err)
		}
		return err
	}
	connection := &api.Connection{Issuer: issuer, Base: kept.API, HTTP: tokenClient(oauthClient, kept.Tokens)}
	who, err := connection.Whoami(ctx)
	if api.StatusOf(err) == http.StatusForbidden {
		err = fmt.Errorf("you may not manage %s, or you have not allowed the command line to: %w", printable(issuer), err)
	}
	if err != nil {
		return errors.Join(err, oauthClient.Revoke(ctx, kept.Tokens))
	}
	name := loginName(issuer)
	unlock, err := lockToken(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	if err := keepToken(name, kept); err != nil {
		return err
	}
	if err := writeCurrentServer(issuer); err != nil {
		return err
	}
	fmt.Fprintf(o.log, "You are logged in to %s as %s (%s).\n", printable(issuer), printable(who.Name), who.Role)
	return nil
}

type logoutCommand struct {
	Server string `help:"The issuer of the server (default: the latest that you have logged in to)." placeholder:"URL"`
}

// Help is shown by "valetkey logout --help".
func (logoutCommand) Help() string {
	return "Revokes the tokens of \"valetkey login\" and removes their file.\n\nExample: valetkey logout"
}

// Run logs out. The file is removed also if the server does not respond.
func (c *logoutCommand) Run(ctx context.Context, o *output) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	current, err := currentServer()
	if err != nil {
		return err
	}
	issuer := strings.TrimSuffix(c.Server, "/")
	if issuer == "" {
		issuer = current
	}
	if issuer == "" {
		return usageError{errors.New("you are not logged in to a server")}
	}
	name := loginName(issuer)
	unlock, err := lockToken(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	kept, err := readToken(name)
	if errors.As(err, new(usageError)) {
		return usageError{fmt.Errorf("you are not logged in to %s", printable(issuer))}
	}
	file, fileErr := tokenFile(name)
	if fileErr == nil {
		fileErr = os.Remove(file)
	}
	if fileErr == nil && issuer == current {
		fileErr = writeCurrentServer("")
	}
	if err := errors.Join(err, fileErr); err != nil {
		return err
	}
	oauthClient, err := kept.Client.discoverWith(ctx, "")
	if err == nil {
		err = oauthClient.Revoke(ctx, kept.Tokens)
	}
	if err != nil {
		return fmt.Errorf("the file with the tokens is removed, but they may still be valid: %w", err)
	}
	fmt.Fprintf(o.log, "You are logged out of %s.\n", printable(issuer))
	return nil
}

// loginFlags describe the client of the command line, which every server has.
func loginFlags(issuer string, scope []string, noBrowser bool) clientFlags {
	if len(scope) == 0 {
		for _, p := range api.Permissions() {
			scope = append(scope, string(p))
		}
	}
	scope = append([]string{oauth.ScopeOfflineAccess}, scope...)
	return clientFlags{
		Issuer: issuer, ClientID: api.CommandLineClientID, DPoP: true, Scope: scope, Resource: []string{issuer + api.Path},
		RedirectURI: "http://127.0.0.1/callback", NoBrowser: noBrowser,
	}
}

// loginName returns the name of the kept token of a server.
func loginName(issuer string) string {
	return fmt.Sprintf("login-%x", sha256.Sum256([]byte(issuer)))[:38]
}

// currentServerFile has the issuer of the latest login.
func currentServerFile() (string, error) {
	directory, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("find the user's configuration directory: %w", err)
	}
	return filepath.Join(directory, "valetkey", "server"), nil
}

// currentServer returns the issuer of the latest login; "" if there is none.
func currentServer() (string, error) {
	file, err := currentServerFile()
	if err != nil {
		return "", nil // a system user without a home has logged in nowhere
	}
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("find the server that you are logged in to: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// writeCurrentServer remembers a login, or with "" forgets it.
func writeCurrentServer(issuer string) error {
	file, err := currentServerFile()
	if err != nil {
		return err
	}
	if issuer == "" {
		err = os.Remove(file)
	} else {
		err = os.WriteFile(file, []byte(issuer+"\n"), 0o600)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remember the server: %w", err)
	}
	return nil
}
