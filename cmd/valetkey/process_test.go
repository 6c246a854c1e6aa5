package main

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestUnderSystemd starts the program as systemd does: with a socket that is open already, and one to
// which it reports. It is in the sandbox when the configuration changes.
func TestUnderSystemd(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "valetkey") // TestMain runs the command of this name
	if err := os.Symlink(os.Args[0], program); err != nil {
		t.Fatal(err)
	}
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	file, err := listener.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close() // file is still open
	config := filepath.Join(dir, "etc", "valetkey.yaml")
	write := func(client string) {
		t.Helper()
		text := fmt.Sprintf("issuer: http://%s\nlisten: 127.0.0.1:1\ndatabase: sqlite:%s\nclients: [{client_id: %s, client_secret: %s, grant_types: [client_credentials]}]\n",
			address, filepath.Join(dir, "data", "v.db"), client, strings.Repeat("s", 32))
		// Editors replace the file.
		temporary := config + ".new"
		for _, err := range []error{os.MkdirAll(filepath.Dir(config), 0o700), os.MkdirAll(filepath.Join(dir, "data"), 0o700),
			os.WriteFile(temporary, []byte(text), 0o600), os.Rename(temporary, config)} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	write("first")

	// Only after the fork is it known which process the socket is for.
	command := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$0" serve --config "$1"`, program, config)
	command.Env = append(os.Environ(), "NOTIFY_SOCKET="+filepath.Join(dir, "notify"), "WATCHDOG_USEC=300000", "LISTEN_FDS=1", "LISTEN_FDNAMES=valetkey")
	command.ExtraFiles = []*os.File{file}
	log := &sharedLog{}
	command.Stdout, command.Stderr = log, log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	file.Close()
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	t.Cleanup(func() { command.Process.Kill() })

	await := func(want string) {
		t.Helper()
		message := make([]byte, 1000)
		for deadline := time.Now().Add(time.Minute); ; {
			if err := socket.SetReadDeadline(deadline); err != nil {
				t.Fatal(err)
			}
			n, err := socket.Read(message)
			if err != nil {
				t.Fatalf("%s is not reported: %v\n%s", want, err, log)
			}
			if strings.HasPrefix(string(message[:n]), want) {
				return
			}
		}
	}
	await("READY=1")
	response, err := http.Get("http://" + address + "/readyz")
	if err != nil {
		t.Fatalf("the socket is not used: %v\n%s", err, log)
	}
	response.Body.Close()
	await("WATCHDOG=1")
	write("second")
	if err := command.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	await("RELOADING=1\nMONOTONIC_USEC=")
	await("READY=1")
	// What the process has written may arrive after the notification.
	logged := func() bool {
		return strings.Contains(log.String(), "configuration reloaded") && strings.Contains(log.String(), "the process is")
	}
	for deadline := time.Now().Add(time.Minute); !logged() && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	if !logged() {
		t.Errorf("the log has no reload, or no sandbox:\n%s", log)
	}
	if err := command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	await("STOPPING=1")
	if err := <-ended; err != nil {
		t.Errorf("it ended with %v\n%s", err, log)
	}
}

// sharedLog is what a process writes.
type sharedLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *sharedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *sharedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
