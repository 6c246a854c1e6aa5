package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/valetkey/valetkey"
	"github.com/valetkey/valetkey/internal/operatormcp"
	"github.com/valetkey/valetkey/manage/api"
)

type mcpCommand struct {
	serverFlags `embed:""`
	Write       bool   `help:"Also offer tools that sign users out, revoke grants and disable users. Without it, tools only read."`
	Listen      string `help:"Serve HTTP on this address, with the access token of each caller, instead of standard input and output with your login." placeholder:"ADDRESS"`
	URL         string `name:"url" help:"With --listen: the URL at which clients find this server (default: http://ADDRESS/mcp). The configuration of the server has the same as management.mcp_url." placeholder:"URL"`
}

// Help is shown by "valetkey mcp --help".
func (mcpCommand) Help() string {
	return "An MCP server over the management API, for your agent. On standard input and output it acts as you, with the login of \"valetkey login\"; " +
		"a login with fewer scopes limits it. Over HTTP, callers sign in to the server themselves, and get what their role allows.\n\n" +
		"No tool returns a secret or gives permissions. Results contain texts that users and strangers chose.\n\n" +
		"Examples:\n  valetkey mcp\n  valetkey mcp --server https://login.example.com --listen 127.0.0.1:9444 --url https://mcp.example.com/mcp"
}

// Run serves until ctx is done, or until standard input ends.
func (c *mcpCommand) Run(ctx context.Context, o *output) error {
	if c.Listen != "" {
		return c.serve(ctx, o)
	}
	if c.URL != "" {
		return usageError{errors.New("--url needs --listen")}
	}
	if _, err := c.onlyServer(ctx); err != nil { // tell it here, not in the first call
		return err
	}
	server := operatormcp.New(operatormcp.Config{
		Version: valetkey.Version, Write: c.Write,
		// For each call, so that tokens are renewed, and a logout takes effect.
		Connect: func(ctx context.Context) (*api.Connection, error) { return c.onlyServer(ctx) },
	})
	err := server.Run(ctx, &mcp.StdioTransport{})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (c *mcpCommand) serve(ctx context.Context, o *output) error {
	issuer, err := c.issuer(true)
	if err != nil {
		return err
	}
	if issuer == "" {
		return usageError{errors.New("no server is selected: pass --server")}
	}
	if c.ClientID != "" {
		return usageError{errors.New("--client-id is for standard input and output: over HTTP, each caller has an access token")}
	}
	address := cmp.Or(c.URL, "http://"+c.Listen+"/mcp")
	base := c.api()
	if base == "" { // a login knows where the API is
		if kept, err := readToken(loginName(issuer)); err == nil {
			base = kept.API
		}
	}
	handler, err := operatormcp.NewHandler(operatormcp.HTTPConfig{Version: valetkey.Version, Write: c.Write, Issuer: issuer, API: base, URL: address})
	if err != nil {
		return usageError{err}
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second, WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10}
	stop := context.AfterFunc(ctx, func() {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		_ = server.Shutdown(ending) // what has not ended by then is cut off
	})
	defer stop()
	fmt.Fprintf(o.log, "MCP server of %s at %s\n", printable(issuer), printable(address))
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}
