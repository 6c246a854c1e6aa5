// Package systemd tells systemd how the server is doing, and takes over sockets that systemd has
// opened (sd_notify(3), sd_listen_fds(3)). Without systemd, everything here does nothing.
//
//	notify.go     Type=notify and the watchdog
//	listeners.go  socket activation
package systemd

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// Notifier sends the state of this process to systemd. A nil Notifier sends nothing. It is safe for
// concurrent use.
type Notifier struct {
	conn *net.UnixConn
	// watchdog is how often systemd wants to hear from this process; zero: not at all.
	watchdog time.Duration
}

// NewNotifier returns a Notifier for the socket in NOTIFY_SOCKET, or nil if there is none. It connects
// at once, because a sandbox may forbid that later, and removes the variables, so that no child process
// speaks for this one.
func NewNotifier() (*Notifier, error) {
	path := os.Getenv("NOTIFY_SOCKET")
	interval, pid := os.Getenv("WATCHDOG_USEC"), os.Getenv("WATCHDOG_PID")
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
		if err := os.Unsetenv(name); err != nil {
			return nil, err
		}
	}
	if path == "" {
		return nil, nil
	}
	// A name that begins with "@" is in the abstract namespace, which package net knows.
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("connect to NOTIFY_SOCKET: %w", err)
	}
	n := &Notifier{conn: conn}
	if microseconds, err := strconv.ParseInt(interval, 10, 64); err == nil && microseconds > 0 && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		n.watchdog = time.Duration(microseconds) * time.Microsecond
	}
	return n, nil
}

// Ready says that the server handles requests, also after Reloading.
func (n *Notifier) Ready() error { return n.send("READY=1") }

// Reloading says that the server reads its configuration again.
func (n *Notifier) Reloading() error {
	now, err := monotonic()
	if err != nil {
		return err
	}
	return n.send("RELOADING=1", "MONOTONIC_USEC="+strconv.FormatInt(now.Microseconds(), 10))
}

// Stopping says that the server finishes its requests and ends.
func (n *Notifier) Stopping() error { return n.send("STOPPING=1") }

// Alive tells the watchdog that the server works.
func (n *Notifier) Alive() error { return n.send("WATCHDOG=1") }

// Watchdog returns how often Alive must be called at least, or zero if systemd does not wait for it.
func (n *Notifier) Watchdog() time.Duration {
	if n == nil {
		return 0
	}
	return n.watchdog
}

func (n *Notifier) send(lines ...string) error {
	if n == nil {
		return nil
	}
	if err := n.conn.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	_, err := n.conn.Write([]byte(strings.Join(lines, "\n")))
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("notify systemd: %w", err)
	}
	return nil
}
