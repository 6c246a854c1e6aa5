package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/manage/api"
	"github.com/valetkey/valetkey/oauth/client"
)

// target says what a command works on: a running server, through its management API, or a database.
type target struct {
	serverDatabase `embed:""`
	serverFlags    `embed:""`
}

// serverFlags select a running server, and who calls its management API.
type serverFlags struct {
	Server           string `help:"The issuer of a running server, whose management API is used (default: VALETKEY_SERVER, or the server of \"valetkey login\")." placeholder:"URL"`
	API              string `name:"api" help:"Where the management API of the server is, if management.listen is set (default: VALETKEY_API, the address of the login, or the issuer)." placeholder:"URL"`
	ClientID         string `name:"client-id" help:"A service account, instead of the login (default: VALETKEY_CLIENT_ID)." placeholder:"ID"`
	ClientSecretFile string `help:"The file of its secret (default: the secret in VALETKEY_CLIENT_SECRET)." placeholder:"FILE"`
}

// connection returns a connection to the server, or nil if the command works on a database: flags
// come first, then the environment, then the login.
func (t *target) connection(ctx context.Context) (*api.Connection, error) {
	if t.Config != "" || t.Database != "" {
		if t.Server != "" {
			return nil, usageError{errors.New("--server is a running server, --config and --database are a database: pass one of them")}
		}
		return nil, nil
	}
	environment, err := configurationOf("")
	if err != nil {
		return nil, err
	}
	return t.connect(ctx, environment.Database == "")
}

// issuer returns the server that the flags and the environment select; "" for none.
func (f *serverFlags) issuer(login bool) (string, error) {
	issuer := cmp.Or(f.Server, os.Getenv(configuration.ServerVariable))
	if issuer == "" && login {
		return currentServer()
	}
	return strings.TrimSuffix(issuer, "/"), nil
}

// connect returns a connection to the server, or nil if none is selected. login says whether the
// server of the latest login counts.
func (f *serverFlags) connect(ctx context.Context, login bool) (*api.Connection, error) {
	issuer, err := f.issuer(login)
	if err != nil {
		return nil, err
	}
	if issuer == "" {
		if f.ClientID != "" {
			return nil, usageError{errors.New("--client-id needs --server")}
		}
		return nil, nil
	}
	if f.ClientID != "" || os.Getenv(configuration.ClientIDVariable) != "" {
		return f.serviceAccount(ctx, issuer)
	}
	connection, err := loggedIn(ctx, issuer)
	if err == nil && f.api() != "" {
		connection.Base = f.api()
	}
	return connection, err
}

// api returns the URL of the management API that was chosen; "" for none.
func (f *serverFlags) api() string {
	return apiBase(cmp.Or(f.API, os.Getenv(configuration.APIVariable)))
}

// apiBase returns the URL of the API at an address; "" for "".
func apiBase(address string) string {
	if address == "" {
		return ""
	}
	return strings.TrimSuffix(strings.TrimSuffix(address, "/"), api.Path) + api.Path
}

// serviceAccount gets a token by client credentials. It is not kept.
func (f *serverFlags) serviceAccount(ctx context.Context, issuer string) (*api.Connection, error) {
	account := clientFlags{
		Issuer: issuer, ClientID: cmp.Or(f.ClientID, os.Getenv(configuration.ClientIDVariable)), ClientSecretFile: f.ClientSecretFile,
		Resource: []string{issuer + api.Path},
	}
	secret, err := account.clientSecret()
	if err != nil {
		return nil, err
	}
	if secret == "" {
		return nil, usageError{fmt.Errorf("the secret of %s is missing: pass --client-secret-file, or set %s", printable(account.ClientID), configuration.ClientSecretVariable)}
	}
	oauthClient, err := account.discoverWith(ctx, secret)
	if err != nil {
		return nil, err
	}
	tokens, err := oauthClient.ClientCredentials(ctx)
	if err != nil {
		return nil, err
	}
	return &api.Connection{Issuer: issuer, Base: f.api(), HTTP: tokenClient(oauthClient, tokens)}, nil
}

// loggedIn returns a connection with the tokens of "valetkey login". They are renewed first if they
// have expired; other processes wait meanwhile.
func loggedIn(ctx context.Context, issuer string) (*api.Connection, error) {
	again := usageError{fmt.Errorf("you are not logged in to %s: run \"valetkey login %[1]s\"", printable(issuer))}
	name := loginName(issuer)
	unlock, err := lockToken(ctx, name)
	if err != nil {
		return nil, err
	}
	defer unlock()
	kept, err := readToken(name)
	if errors.As(err, new(usageError)) {
		return nil, again
	}
	if err != nil {
		return nil, err
	}
	oauthClient, err := kept.Client.discoverWith(ctx, "")
	if err != nil {
		return nil, err
	}
	before := kept.Tokens
	kept.Tokens, err = oauthClient.Source(before, nil).Tokens(ctx)
	if errors.Is(err, client.ErrSignInAgain) {
		return nil, again
	}
	if err != nil {
		return nil, err
	}
	if kept.Tokens != before {
		if err := keepToken(name, kept); err != nil {
			return nil, err
		}
	}
	return &api.Connection{Issuer: issuer, Base: kept.API, HTTP: tokenClient(oauthClient, kept.Tokens)}, nil
}

// tokenClient returns an HTTP client that sends an access token, and does not renew it: new tokens
// would have to be kept.
func tokenClient(oauthClient *client.Client, tokens *client.Tokens) *http.Client {
	used := *tokens
	used.RefreshToken = ""
	http := oauthClient.Source(&used, nil).HTTPClient()
	http.Timeout = time.Minute
	return http
}

// discoverWith is discover for a client with this secret, or "" for a public one, whatever the
// environment has.
func (f *clientFlags) discoverWith(ctx context.Context, secret string) (*client.Client, error) {
	return client.Discover(ctx, client.Config{
		Issuer: f.Issuer, ClientID: f.ClientID, ClientSecret: secret, RedirectURI: f.RedirectURI, DPoP: f.DPoP, Scopes: f.Scope, Resources: f.Resource,
	})
}

// onlyServer is for flags of commands that need a server.
func (f *serverFlags) onlyServer(ctx context.Context) (*api.Connection, error) {
	connection, err := f.connect(ctx, true)
	if err == nil && connection == nil {
		err = usageError{errors.New("no server is selected: run \"valetkey login URL\", or pass --server")}
	}
	return connection, err
}
