package client

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"runtime"
	"sync"
	"time"

	"github.com/valetkey/valetkey/oauth"
)

// LoopbackOptions are what a sign-in from the command line or a native app needs.
type LoopbackOptions struct {
	AuthorizationOptions
	// OpenBrowser shows the URL to the person; nil opens the system's browser. A program
	// without a screen prints the URL instead.
	OpenBrowser func(url string) error
}

// Loopback signs a person in from a program that has no web server: it listens on
// loopback, opens the browser, waits until the browser comes back, and returns the
// tokens (RFC 8252, section 7.3). It ends when ctx ends.
//
// The RedirectURI, of the options or of Config, is what is registered, and decides host
// and path; without a port (as in http://127.0.0.1/callback) any free one is taken,
// which providers allow for 127.0.0.1 and [::1]. Empty means http://127.0.0.1/callback.
func (c *Client) Loopback(ctx context.Context, options LoopbackOptions) (*Tokens, error) {
	redirect, err := c.loopbackRedirect(options.RedirectURI)
	if err != nil {
		return nil, err
	}
	listener, err := listenLoopback(ctx, redirect)
	if err != nil {
		return nil, err
	}
	options.RedirectURI = redirect.String()
	address, transaction, err := c.AuthorizationURL(options.AuthorizationOptions)
	if err != nil {
		listener.Close()
		return nil, err
	}
	wait := &loopbackCallback{
		ctx: ctx, client: c, redirect: redirect, transaction: transaction,
		done: make(chan struct{}),
	}
	server := &http.Server{
		Handler:           wait,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		MaxHeaderBytes:    64 << 10,
	}
	go server.Serve(listener) // returns when the server is shut down below
	defer func() {
		// The page that was just written must still reach the browser.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if server.Shutdown(ctx) != nil {
			server.Close()
		}
		listener.Close() // for the case that Serve has not begun yet
	}()
	open := options.OpenBrowser
	if open == nil {
		open = openBrowser
	}
	if err := open(address); err != nil {
		return nil, fmt.Errorf("client: open the browser: %w", err)
	}
	select {
	case <-wait.done:
		return wait.tokens, wait.err
	case <-ctx.Done():
		return nil, fmt.Errorf("client: wait for the browser to come back: %w", context.Cause(ctx))
	}
}

func (c *Client) loopbackRedirect(given string) (*url.URL, error) {
	if given == "" {
		given = c.config.RedirectURI
	}
	if given == "" {
		given = "http://127.0.0.1/callback"
	}
	u, err := url.Parse(given)
	if err != nil || u.Scheme != "http" || !oauth.IsLoopbackHost(u.Hostname()) {
		return nil, errors.New("client: the redirect URI of Loopback is http on 127.0.0.1, [::1] or localhost")
	}
	if u.Path == "" {
		u.Path = "/"
	}
	return u, nil
}

// listenLoopback listens where redirect points and writes the port into it. A fixed port
// is taken as it is; localhost means 127.0.0.1.
func listenLoopback(ctx context.Context, redirect *url.URL) (net.Listener, error) {
	host, port := redirect.Hostname(), redirect.Port()
	if host == "localhost" {
		host = "127.0.0.1"
	}
	if port == "" {
		port = "0"
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return nil, fmt.Errorf("client: listen on loopback: %w", err)
	}
	_, port, err = net.SplitHostPort(listener.Addr().String())
	if err != nil {
		listener.Close()
		return nil, fmt.Errorf("client: listen on loopback: %w", err)
	}
	redirect.Host = net.JoinHostPort(redirect.Hostname(), port)
	return listener, nil
}

// loopbackCallback waits for the one request that carries the transaction's state. Others
// are answered and forgotten: any page in the browser can send requests to loopback.
type loopbackCallback struct {
	ctx         context.Context // of the call to Loopback
	client      *Client
	redirect    *url.URL
	transaction *Transaction

	mu       sync.Mutex
	finished bool
	done     chan struct{}
	tokens   *Tokens
	err      error
}

func (l *loopbackCallback) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("X-Content-Type-Options", "nosniff")
	// A page of another origin that had its name resolve to 127.0.0.1 sends its own Host.
	if r.Host != l.redirect.Host || r.URL.Path != l.redirect.Path {
		http.NotFound(w, r)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodPost {
		header.Set("Allow", "GET, POST")
		http.Error(w, "The provider answers with GET or POST.", http.StatusMethodNotAllowed)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	if err := r.ParseForm(); err != nil {
		http.Error(w, "The answer is malformed.", http.StatusBadRequest)
		return
	}
	answer := r.URL.Query()
	if r.Method == http.MethodPost {
		answer = r.PostForm
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.finished {
		http.Error(w, "This sign-in is finished. You can close this window.", http.StatusGone)
		return
	}
	tokens, err := l.client.Callback(l.ctx, l.transaction, answer)
	if errors.Is(err, ErrState) {
		http.Error(w, "This answer belongs to another sign-in.", http.StatusBadRequest)
		return
	}
	l.finished, l.tokens, l.err = true, tokens, err
	header.Set("Content-Type", "text/html; charset=utf-8")
	message := "You are signed in."
	if err != nil {
		message = "You are not signed in. The program that sent you here says why."
		w.WriteHeader(http.StatusBadRequest)
	}
	loopbackPage.Execute(w, message) // the browser may be gone; the sign-in holds
	close(l.done)
}

var loopbackPage = template.Must(template.New("loopback").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark"><title>Sign-in</title>
<body style="font: 1.1rem/1.5 system-ui, sans-serif; max-width: 34rem; margin: 20vh auto; padding: 0 1rem">
<h1 style="font-size: 1.4rem">{{.}}</h1>
<p>You can close this window.</p>
`))

func openBrowser(address string) error {
	var command *exec.Cmd
	switch runtime.GOOS {
	case "darwin":
		command = exec.Command("open", address)
	case "windows":
		command = exec.Command("rundll32", "url.dll,FileProtocolHandler", address)
	default:
		command = exec.Command("xdg-open", address)
	}
	if err := command.Start(); err != nil {
		return err
	}
	go command.Wait() // only to release the process
	return nil
}
