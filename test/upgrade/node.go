package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// masterKey is that of all databases of this program.
var masterKey = base64.StdEncoding.EncodeToString([]byte("a master key for the test of an "))

// node is a running server.
type node struct {
	name    string
	address string
	file    string // its own configuration file
	command *exec.Cmd
	log     syncedBuffer
	ended   chan error
}

// startNode starts a program on a free port and waits until it is ready.
func startNode(ctx context.Context, name, program, file string) (*node, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	n := &node{name: name, address: listener.Addr().String(), file: file, ended: make(chan error, 1)}
	if err := listener.Close(); err != nil {
		return nil, err
	}
	n.command = exec.Command(program, "serve", "--config", file, "--listen", n.address)
	n.command.Env = append(os.Environ(), "VALETKEY_MASTER_KEY="+masterKey)
	n.command.Stderr = &n.log
	if err := n.command.Start(); err != nil {
		return nil, err
	}
	go func() { n.ended <- n.command.Wait() }()
	err = eventually(ctx, func() error {
		select {
		case err := <-n.ended:
			n.ended <- err
			return stopTrying{fmt.Errorf("the %s version ended: %w\n%s", name, err, n.log.String())}
		default:
		}
		response, err := http.Get("http://" + n.address + "/readyz")
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("/readyz of the %s version: %s", name, response.Status)
		}
		return nil
	})
	if err != nil {
		n.kill()
		return nil, err
	}
	return n, nil
}

// stop ends a server as an operator does.
func (n *node) stop() error {
	if err := n.command.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	if err := <-n.ended; err != nil {
		return fmt.Errorf("stop the %s version: %w\n%s", n.name, err, n.log.String())
	}
	n.ended <- nil
	return nil
}

func (n *node) kill() {
	_ = n.command.Process.Kill() // it may have ended
	n.ended <- <-n.ended
}

// problems returns the lines of the log with errors.
func (n *node) problems() (lines []string) {
	for line := range strings.Lines(n.log.String()) {
		if strings.Contains(line, "level=ERROR") || strings.Contains(line, "panic") {
			lines = append(lines, n.name+": "+line)
		}
	}
	return lines
}

// stopTrying ends eventually.
type stopTrying struct{ error }

// eventually calls f until it succeeds.
func eventually(ctx context.Context, f func() error) error {
	deadline := time.Now().Add(time.Minute)
	for {
		err := f()
		final, stop := err.(stopTrying)
		switch {
		case err == nil:
			return nil
		case stop:
			return final.error
		case time.Now().After(deadline):
			return err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// syncedBuffer is safe for concurrent use.
type syncedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

// Write implements io.Writer.
func (b *syncedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *syncedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}
