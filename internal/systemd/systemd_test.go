package systemd

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestNotifier(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "5000000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	n, err := NewNotifier()
	if err != nil {
		t.Fatal(err)
	}
	if n.Watchdog() != 5*time.Second {
		t.Errorf("the watchdog waits for %v", n.Watchdog())
	}
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
		if os.Getenv(name) != "" {
			t.Errorf("child processes get %s", name)
		}
	}
	read := func() string {
		if err := socket.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		message := make([]byte, 1000)
		count, err := socket.Read(message)
		if err != nil {
			t.Fatal(err)
		}
		return string(message[:count])
	}
	for want, send := range map[string]func() error{"READY=1": n.Ready, "STOPPING=1": n.Stopping, "WATCHDOG=1": n.Alive} {
		if err := send(); err != nil {
			t.Fatal(err)
		}
		if got := read(); got != want {
			t.Errorf("sent %q, want %q", got, want)
		}
	}
	if err := n.Reloading(); err != nil {
		t.Fatal(err)
	}
	got := read()
	now, err := strconv.ParseInt(strings.TrimPrefix(got, "RELOADING=1\nMONOTONIC_USEC="), 10, 64)
	if err != nil || now <= 0 {
		t.Errorf("sent %q", got)
	}
}

func TestNotifierForAnotherProcess(t *testing.T) {
	var n *Notifier
	if err := n.Ready(); err != nil || n.Watchdog() != 0 {
		t.Errorf("without systemd: %v, %v", err, n.Watchdog())
	}
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "nothing"))
	if n, err := NewNotifier(); err == nil || n != nil {
		t.Error("a socket that does not exist is accepted")
	}
	t.Setenv("LISTEN_PID", "1")
	t.Setenv("LISTEN_FDS", "1")
	if listeners, err := Listeners(); err != nil || len(listeners) != 0 {
		t.Errorf("the sockets of another process: %v, %v", listeners, err)
	}
}

// TestListeners runs this test as a process that systemd would start.
func TestListeners(t *testing.T) {
	if os.Getenv("SYSTEMD_TEST_CHILD") != "" {
		t.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid())) // systemd knows it after the fork
		listeners, err := Listeners()
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"valetkey", "metrics"} {
			fmt.Printf("%s is %s\n", name, listeners[name].Addr())
		}
		if again, err := Listeners(); err != nil || again != nil {
			t.Errorf("a second call returns %v, %v", again, err)
		}
		conn, err := listeners["valetkey"].Accept()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(conn, "hello")
		conn.Close()
		return
	}
	var files []*os.File
	var addresses []string
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		file, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		addresses, files = append(addresses, l.Addr().String()), append(files, file)
		l.Close()
	}
	child := exec.Command(os.Args[0], "-test.run=^TestListeners$", "-test.v")
	child.Env = append(os.Environ(), "SYSTEMD_TEST_CHILD=1", "LISTEN_FDS=2", "LISTEN_FDNAMES=valetkey:metrics")
	child.ExtraFiles = files
	var output strings.Builder
	child.Stdout, child.Stderr = &output, &output
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		file.Close()
	}
	conn, err := net.Dial("tcp", addresses[0]) // waits in the queue until the child accepts it
	if err != nil {
		t.Fatal(err)
	}
	text := make([]byte, 5)
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(text); err != nil || string(text) != "hello" {
		t.Errorf("read %q, %v", text, err)
	}
	if err := child.Wait(); err != nil {
		t.Errorf("the child: %v\n%s", err, output.String())
	}
	for i, name := range []string{"valetkey", "metrics"} {
		if !strings.Contains(output.String(), name+" is "+addresses[i]) {
			t.Errorf("%s is not %s:\n%s", name, addresses[i], output.String())
		}
	}
}
