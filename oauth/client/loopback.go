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

// LoopbackOptions are options of Loopback.
type LoopbackOptions struct {
	AuthorizationOptions
	// OpenBrowser opens the URL in the user's browser; nil means the function OpenBrowser. A
	// program that cannot open one can print the URL instead.
	OpenBrowser func(url string) error
}

// Loopback signs a user in from a command-line or desktop program. It listens on loopback,
// opens the browser, waits for the redirect, and returns the tokens (RFC 8252, section 7.3).
// It stops when ctx is done.
//
// RedirectURI, from the options or Config, is the registered redirect URI. If it has no port,
// as in http://127.0.0.1/callback, any free port is used; providers allow this for 127.0.0.1
// and [::1]. Empty means http://127.0.0.1/callback.
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
	address, transaction, err := c.AuthorizationURL(ctx, options.AuthorizationOptions)
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
	go server.Serve(listener) // returns after the shutdown below
	defer func() {
		// Let the browser receive the page that was just written.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if server.Shutdown(ctx) != nil {
			server.Close()
		}
		listener.Close() // in case Serve has not started yet
	}()
	open := options.OpenBrowser
	if open == nil {
		open = OpenBrowser
	}
	if err := open(address); err != nil {
		return nil, fmt.Errorf("client: open the browser: %w", err)
	}
	select {
	case <-wait.done:
		return wait.tokens, wait.err
	case <-ctx.Done():
		return nil, fmt.Errorf("client: wait for the browser: %w", context.Cause(ctx))
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
		return nil, errors.New("client: the redirect URI of Loopback must be http on 127.0.0.1, [::1] or localhost")
	}
	if u.Path == "" {
		u.Path = "/"
	}
	return u, nil
}

// listenLoopback listens on the host and port of redirect, 127.0.0.1 for localhost. If
// redirect has no port, it sets the one that the system has chosen.
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

// loopbackCallback waits for the request with the transaction's state. Others get an error
// response and change nothing: any page in the browser can send requests to loopback.
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
	// DNS rebinding: a page whose name resolves to 127.0.0.1 sends its own Host.
	if r.Host != l.redirect.Host || r.URL.Path != l.redirect.Path {
		http.NotFound(w, r)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodPost {
		header.Set("Allow", "GET, POST")
		http.Error(w, "Only GET and POST are allowed.", http.StatusMethodNotAllowed)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	if err := r.ParseForm(); err != nil {
		http.Error(w, "The response is malformed.", http.StatusBadRequest)
		return
	}
	response := r.URL.Query()
	if r.Method == http.MethodPost {
		response = r.PostForm
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.finished {
		http.Error(w, "This sign-in is complete. You can close this window.", http.StatusGone)
		return
	}
	tokens, err := l.client.Callback(l.ctx, l.transaction, response)
	if errors.Is(err, ErrState) {
		http.Error(w, "This response belongs to another sign-in.", http.StatusBadRequest)
		return
	}
	l.finished, l.tokens, l.err = true, tokens, err
	header.Set("Content-Type", "text/html; charset=utf-8")
	message := "You are signed in."
	if err != nil {
		message = "Sign-in failed. See the program that opened this page for details."
		w.WriteHeader(http.StatusBadRequest)
	}
	loopbackPage().Execute(w, message) // the browser may be gone; the sign-in is still valid
	close(l.done)
}

var loopbackPage = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("loopback").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark"><title>Sign-in</title>
<body style="font: 1.1rem/1.5 system-ui, sans-serif; max-width: 34rem; margin: 20vh auto; padding: 0 1rem">
<h1 style="font-size: 1.4rem">{{.}}</h1>
<p>You can close this window.</p>
`))
})

// OpenBrowser opens a URL in the system's browser. It does not wait for the browser.
func OpenBrowser(address string) error {
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
	go command.Wait() // releases the process
	return nil
}
