package main

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/sandbox"
	"github.com/valetkey/valetkey/internal/systemd"
)

// restrict limits what the process can do to what its configuration needs, where the kernel can.
// Everything that is needed once is open by now.
func restrict(config configuration.Configuration, file string, log *slog.Logger) {
	if config.Sandbox.Off || !ownProcess {
		return
	}
	level, err := sandbox.Restrict(sandbox.PolicyOf(&config, file))
	switch {
	case err != nil:
		log.Warn("the process is not restricted", "error", err)
	case level == 0:
		log.Info("the process is not restricted: this system has no Landlock")
	default:
		log.Info("the process is restricted to the files that it needs", "by", level.String())
	}
}

// supervise tells systemd that the server is ready, that it still responds, and that it stops.
func supervise(ctx context.Context, notifier *systemd.Notifier, address net.Addr, withTLS bool, log *slog.Logger) {
	notify := func(send func() error) {
		if err := send(); err != nil {
			log.Warn("systemd does not know the state of the server", "error", err)
		}
	}
	notify(notifier.Ready)
	defer notify(notifier.Stopping)
	interval := notifier.Watchdog() / 3
	if interval <= 0 {
		<-ctx.Done()
		return
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	health := newHealthCheck(address, withTLS)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := health(ctx); err != nil {
			log.Warn("the server does not respond to itself", "error", err)
			continue
		}
		notify(notifier.Alive)
	}
}

// newHealthCheck returns a function that requests /healthz from this process. /readyz would restart the
// server when only the database is down.
func newHealthCheck(address net.Addr, withTLS bool) func(context.Context) error {
	url := "http://" + reachable(address) + "/healthz"
	if withTLS {
		url = "https://" + reachable(address) + "/healthz"
	}
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // it is this process, at an address that has no name
	}}
	return func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		return response.Body.Close()
	}
}

// reachable returns an address at which this machine reaches a listener.
func reachable(address net.Addr) string {
	host, port, err := net.SplitHostPort(address.String())
	if ip := net.ParseIP(host); err == nil && ip != nil && ip.IsUnspecified() {
		return net.JoinHostPort("localhost", port)
	}
	return address.String()
}
