package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/valetkey/valetkey"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/systemd"
	"github.com/valetkey/valetkey/oauth"
)

type serveCommand struct {
	Config   string `help:"Configuration file." type:"existingfile" placeholder:"FILE"`
	Listen   string `help:"Address to listen on." placeholder:"ADDR"`
	Issuer   string `help:"URL under which users and clients reach the server." placeholder:"URL"`
	Database string `help:"sqlite:PATH or postgres://…" placeholder:"URL"`

	running  configuration.Configuration // what the server was started with
	piped    []byte                      // what a pipe held, which cannot be read twice
	endsLine bool                        // the file's text ended with a newline
}

// Help is shown by "valetkey serve --help".
func (serveCommand) Help() string {
	return "Without flags, the server listens on 127.0.0.1:8080, keeps its data in ./valetkey.db, and prints " +
		"a one-time link that creates the first user. When the configuration file changes, or at SIGHUP, " +
		"clients, users, scopes, resources, log.level and the members with master keys are reloaded; other settings require a restart. SIGTERM and Ctrl-C stop the server after requests in progress have finished. Environment variables such as VALETKEY_DATABASE are listed in docs/guides/operate.md.\n\n" +
		"Example: valetkey serve --config valetkey.yaml --listen 127.0.0.1:9000"
}

// defaultListen is an address, not a name, which could resolve to something else: http is
// allowed on loopback only.
const defaultListen = "127.0.0.1:8080"

// configuration returns the configuration from file, environment and command line.
func (c *serveCommand) configuration() (configuration.Configuration, error) {
	if c.Config == "" {
		config, err := configuration.FromEnvironment()
		if err != nil {
			return config, usageError{err}
		}
		return c.complete(config)
	}
	var config configuration.Configuration
	text, err := c.text()
	if err == nil {
		c.endsLine = endsLine(text)
		config, err = configuration.Parse(c.Config, text)
	}
	if err != nil {
		return config, usageError{err}
	}
	return c.complete(config)
}

// text returns the content of the configuration file.
func (c *serveCommand) text() ([]byte, error) {
	if c.piped != nil {
		return c.piped, nil
	}
	info, err := os.Stat(c.Config)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	text, err := readFile(c.Config)
	if err == nil && !info.Mode().IsRegular() {
		c.piped = text
	}
	return text, err
}

// read returns the configuration, and the stamps of its files from just before.
func (c *serveCommand) read() (configuration.Configuration, []stamp, error) {
	before := stampsOf([]string{c.Config})
	config, err := c.configuration()
	if paths := watched(c.Config, config); err == nil && len(paths) > 1 {
		// The names of all files are known only now, so read them again.
		before = append(before, stampsOf(paths[1:])...)
		config, err = c.configuration()
	}
	config.Modified = newest(before)
	return config, before, err
}

// complete adds the flags and the defaults.
func (c *serveCommand) complete(config configuration.Configuration) (configuration.Configuration, error) {
	config.Listen = cmp.Or(c.Listen, config.Listen)
	config.Issuer = cmp.Or(c.Issuer, config.Issuer)
	config.Database = cmp.Or(c.Database, config.Database, configuration.DefaultDatabase)
	config.Listen = cmp.Or(config.Listen, listenAddress(config))
	if _, _, err := net.SplitHostPort(config.Listen); err != nil {
		return config, usageError{fmt.Errorf("listen: %q is not a valid address (for example, %s)", config.Listen, defaultListen)}
	}
	if config.Issuer == "" {
		host, port, err := net.SplitHostPort(config.Listen)
		if err != nil || !oauth.IsLoopbackHost(host) || port == "0" {
			return config, usageError{fmt.Errorf("the issuer is missing: pass --issuer with the URL under which users reach %s", config.Listen)}
		}
		config.Issuer = "http://" + config.Listen
	}
	if err := oauth.CheckIssuer(config.Issuer); err != nil {
		return config, usageError{err}
	}
	if c.Config != "" {
		config.Source = cmp.Or(config.Source, config.Issuer)
	}
	return config, nil
}

// listenAddress returns the loopback address and port of the issuer, if it has one.
func listenAddress(c configuration.Configuration) string {
	if u, err := url.Parse(c.Issuer); err == nil && u.Port() != "" && oauth.IsLoopbackHost(u.Hostname()) {
		return net.JoinHostPort("127.0.0.1", u.Port())
	}
	return defaultListen
}

// newLogger returns a logger whose level is that of the variable.
func newLogger(w io.Writer, c configuration.Log, level *slog.LevelVar) *slog.Logger {
	level.Set(logLevel(c))
	options := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// logLevel returns the level of a configuration, which was checked when it was read. The default is info.
func logLevel(c configuration.Log) (level slog.Level) {
	if c.Level != "" {
		_ = level.UnmarshalText([]byte(c.Level))
	}
	return level
}

// Run serves until the context ends.
func (c *serveCommand) Run(ctx context.Context, o *output) error {
	// SIGHUP must not stop a server that is still starting.
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	if c.Config != "" {
		if err := waitSettled(ctx, c.Config); err != nil {
			return err
		}
	}
	config, before, err := c.read()
	if err != nil {
		return err
	}
	c.running = config
	var level slog.LevelVar
	log := newLogger(o.log, config.Log, &level)
	serverConfig := valetkey.Config{Configuration: config, File: c.Config, FormerSource: formerSource(c.Config), Logger: log}
	if err := serverConfig.CheckFiles(); err != nil {
		return usageError{err}
	}
	notifier, err := systemd.NewNotifier()
	if err != nil {
		log.Warn("systemd will not know the state of the server", "error", err)
	}
	passed, err := systemd.Listeners()
	if err != nil {
		return err
	}
	listen := func(name, address, otherwise string) (net.Listener, error) {
		if listener := passed[name]; listener != nil {
			delete(passed, name)
			return listener, nil
		}
		return listen(address, otherwise)
	}
	listener, err := listen("valetkey", config.Listen, "pass another address with --listen")
	if err != nil {
		return err
	}
	var mutualTLS net.Listener
	if m := config.MutualTLS; m != nil && m.Listen != "" {
		if mutualTLS, err = listen("mutual_tls", m.Listen, "set another address in mutual_tls.listen"); err != nil {
			closeAll(listener)
			return err
		}
	}
	var metrics net.Listener
	if address := config.Telemetry.MetricsAddress(); address != "" {
		if metrics, err = listen("metrics", address, "set another address in telemetry.metrics_listen"); err != nil {
			closeAll(listener, mutualTLS)
			return err
		}
	}
	var management net.Listener
	if address := config.Management.Listen; address != "" {
		if management, err = listen("management", address, "set another address in management.listen"); err != nil {
			closeAll(listener, mutualTLS, metrics)
			return err
		}
	}
	for name, unused := range passed {
		log.Warn("a socket of systemd is not used: FileDescriptorName= must be valetkey, mutual_tls, metrics or management", "name", name)
		closeAll(unused)
	}
	server, err := valetkey.New(serverConfig)
	if err != nil {
		closeAll(listener, mutualTLS, metrics, management)
		return err
	}
	fmt.Fprintf(o.out, "Valetkey %s: issuer %s, listening on %s, data in %s\n",
		valetkey.Version, config.Issuer, listener.Addr(), redactedDatabase(config.Database))
	if mutualTLS != nil {
		fmt.Fprintf(o.out, "Clients with certificates: https://%s, listening on %s\n", config.MutualTLS.Host, mutualTLS.Addr())
	}
	if metrics != nil {
		fmt.Fprintf(o.out, "Metrics: http://%s/metrics\n", metrics.Addr())
	}
	if management != nil {
		fmt.Fprintf(o.out, "Management API: listening on %s\n", management.Addr())
	}
	setup, err := server.SetupURL(ctx)
	if err != nil {
		log.Error("cannot create the link for the first user", "error", err)
	}
	if setup != "" {
		fmt.Fprintf(o.out, "\nThere are no users yet. Open this link to create the first one. It works once, within a day:\n\n  %s\n\n", setup)
	}
	restrict(config, c.Config, log)
	go supervise(ctx, notifier, listener.Addr(), config.TLS != nil, log)
	reload, stopReload := context.WithCancel(ctx)
	defer stopReload()
	if c.Config != "" {
		go c.reload(reload, before, hangup, notifier, server, log, &level)
	}
	err = serveAll(ctx, server, listener, mutualTLS, metrics, management)
	if closeErr := server.Close(); err == nil {
		err = closeErr
	}
	return err
}

func listen(address, otherwise string) (net.Listener, error) {
	listener, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("another program is listening on %s: stop it, or %s", address, otherwise)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	return listener, nil
}

// closeAll closes listeners that are not used after all. Each of them may be nil.
func closeAll(listeners ...net.Listener) {
	for _, l := range listeners {
		if l != nil {
			_ = l.Close()
		}
	}
}

// serveAll serves the listeners until ctx is done or one of them fails. All but the first may be nil.
func serveAll(ctx context.Context, server *valetkey.Server, listener, mutualTLS, metrics, management net.Listener) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var others []chan error
	also := func(listener net.Listener, serve func(context.Context, net.Listener) error) {
		if listener == nil {
			return
		}
		ended := make(chan error, 1)
		others = append(others, ended)
		go func() {
			ended <- serve(ctx, listener)
			stop()
		}()
	}
	also(mutualTLS, server.ServeMutualTLS)
	also(metrics, server.ServeMetrics)
	also(management, server.ServeManagement)
	err := server.Serve(ctx, listener)
	stop()
	for _, ended := range others {
		err = errors.Join(err, <-ended)
	}
	return err
}

// formerSource returns the name that an earlier release gave to the source of a file.
func formerSource(file string) string {
	if file == "" {
		return ""
	}
	return "file:" + filepath.Base(file)
}

// redactedDatabase returns the location of the database without possible passwords.
func redactedDatabase(database string) string {
	if u, err := url.Parse(database); err == nil && u.Host != "" {
		return u.Scheme + "://" + u.Host + u.Path
	}
	scheme, rest, _ := strings.Cut(database, ":")
	if scheme != "sqlite" {
		return scheme + ":…"
	}
	return "sqlite:" + rest
}
