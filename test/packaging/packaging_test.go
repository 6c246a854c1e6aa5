// Package packaging builds what is in deploy/ as far as a machine without a container engine can: the
// image with ko, the Debian package with dpkg-deb. It starts the server from them. It checks the Compose
// file and the Helm chart with the libraries of their tools.
package packaging

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

const root = "../.."

// user is the one of the image.
const user = 65532

// image is built once, with a stand-in for the base image, which is in a registry on this machine.
var image = sync.OnceValues(func() (v1.Image, error) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		var content bytes.Buffer
		w := tar.NewWriter(&content)
		const certificates = "# the certificate authorities\n"
		err := w.WriteHeader(&tar.Header{Name: "etc/ssl/certs/ca-certificates.crt", Mode: 0o644, Size: int64(len(certificates))})
		_, writeErr := w.Write([]byte(certificates))
		return io.NopCloser(&content), errors.Join(err, writeErr, w.Close())
	})
	if err != nil {
		return nil, err
	}
	base, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: "amd64", Config: v1.Config{User: fmt.Sprint(user)}})
	if err != nil {
		return nil, err
	}
	base, err = mutate.AppendLayers(base, layer)
	if err != nil {
		return nil, err
	}
	reference, err := name.ParseReference(host + "/static:nonroot")
	if err != nil {
		return nil, err
	}
	if err := remote.Write(reference, base); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "valetkey-ko-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	ko := filepath.Join(dir, "ko")
	if output, err := exec.Command("go", "build", "-o", ko, "github.com/google/ko").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build ko: %w\n%s", err, output)
	}
	build := exec.Command(ko, "build", "--bare", "--sbom=none", "--platform=linux/amd64", "./cmd/valetkey")
	build.Dir = root
	build.Env = append(os.Environ(), "GOWORK=", "KO_CONFIG_PATH=deploy/container", "KO_DEFAULTBASEIMAGE="+host+"/static:nonroot", "KO_DOCKER_REPO="+host+"/valetkey")
	if output, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("ko: %w\n%s", err, output)
	}
	if reference, err = name.ParseReference(host + "/valetkey:latest"); err != nil {
		return nil, err
	}
	built, err := remote.Image(reference)
	if err != nil {
		return nil, err
	}
	// The registry ends; keep the image.
	var kept bytes.Buffer
	if err := tarball.Write(reference, built, &kept); err != nil {
		return nil, err
	}
	return tarball.Image(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(kept.Bytes())), nil }, nil)
})

// unpacked is the file system of the image.
var unpacked = sync.OnceValues(func() (string, error) {
	built, err := image()
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "valetkey-image-")
	if err != nil {
		return "", err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	files := mutate.Extract(built)
	defer files.Close()
	for archive := tar.NewReader(files); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return dir, nil
		}
		if err != nil {
			return "", err
		}
		path := strings.TrimPrefix(header.Name, "/")
		if !filepath.IsLocal(path) {
			return "", fmt.Errorf("the image has a file %s", header.Name)
		}
		path = filepath.Join(dir, path)
		if header.Typeflag != tar.TypeReg {
			continue
		}
		content, err := io.ReadAll(archive)
		if err := errors.Join(err, os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, content, fs.FileMode(header.Mode)&0o777|0o400)); err != nil {
			return "", err
		}
	}
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := unpacked(); err == nil {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// program returns the path of the program in the image.
func program(t *testing.T) string {
	t.Helper()
	dir, err := unpacked()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "ko-app", "valetkey")
}

func TestImage(t *testing.T) {
	built, err := image()
	if err != nil {
		t.Fatal(err)
	}
	config, err := built.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Config.User != fmt.Sprint(user) {
		t.Errorf("the user is %q", config.Config.User)
	}
	if fmt.Sprint(config.Config.Entrypoint) != "[/ko-app/valetkey]" {
		t.Errorf("the entry point is %q", config.Config.Entrypoint)
	}
	program(t)
	dir, err := unpacked()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "etc/ssl/certs/ca-certificates.crt")); err != nil {
		t.Error(err)
	}

	// Start it as an engine would: as its user, in its file system, which is read-only.
	if os.Getuid() != 0 {
		t.Log("without root, the image is not started in a file system of its own")
		return
	}
	address := freeAddress(t)
	data := t.TempDir()
	if err := errors.Join(os.Chmod(data, 0o700), os.Chown(data, user, user), os.MkdirAll(filepath.Join(dir, "data"), 0o755)); err != nil {
		t.Fatal(err)
	}
	for path := data; path != "/"; path = filepath.Dir(path) {
		if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o001 == 0 && path != data {
			if err := os.Chmod(path, info.Mode().Perm()|0o011); err != nil {
				t.Fatal(err)
			}
		}
	}
	start(t, address, exec.Command("unshare", "--mount", "sh", "-c", `
		mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && mount --bind "$1" "$0/data" &&
		exec chroot --userspec=65532:65532 "$0" /ko-app/valetkey serve --listen "$2" --issuer "http://$2" --database sqlite:/data/v.db`,
		dir, data, address))
	if _, err := os.Stat(filepath.Join(data, "v.db")); err != nil {
		t.Error(err)
	}
}

// start runs a server until the test ends, and waits until it is ready.
func start(t *testing.T, address string, command *exec.Cmd) {
	t.Helper()
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	t.Cleanup(func() {
		command.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(time.Minute):
			command.Process.Kill()
			t.Error("the server does not end")
		}
	})
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		response, err := http.Get("http://" + address + "/readyz")
		if err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("the server ended: %v\n%s", err, output.String())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatal("the server is not ready")
		}
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// TestDebianPackage builds the package, installs it if the test may, and starts what is installed.
func TestDebianPackage(t *testing.T) {
	if _, err := exec.LookPath("dpkg-deb"); err != nil {
		t.Skip("dpkg-deb is not installed")
	}
	dir := t.TempDir()
	if output, err := exec.Command(filepath.Join(root, "deploy/debian/build"), program(t), "0.1.0", "amd64", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	file := filepath.Join(dir, "valetkey_0.1.0_amd64.deb")
	listing, err := exec.Command("dpkg-deb", "--contents", file).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"-rwxr-xr-x root/root", "./usr/bin/valetkey\n", "./lib/systemd/system/valetkey.service\n", "./lib/systemd/system/valetkey.socket\n", "./usr/share/doc/valetkey/copyright\n"} {
		if !strings.Contains(string(listing), want) {
			t.Errorf("the package has no %q:\n%s", want, listing)
		}
	}
	if lintian, err := exec.LookPath("lintian"); err == nil {
		// A program in Go is static, and has no manual pages.
		output, err := exec.Command(lintian, "--fail-on", "error", "--suppress-tags", "statically-linked-binary,no-manual-page,initial-upload-closes-no-bugs,bad-distribution-in-changes-file", file).CombinedOutput()
		if err != nil {
			t.Errorf("lintian: %v\n%s", err, output)
		}
	}
	installed := filepath.Join(dir, "root")
	if os.Getuid() == 0 {
		installed = "/"
		if _, err := os.Stat("/usr/bin/valetkey"); err == nil {
			t.Fatal("valetkey is installed on this machine already")
		}
		install := exec.Command("dpkg", "--install", "--force-depends", file)
		install.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
		if output, err := install.CombinedOutput(); err != nil {
			t.Fatalf("install: %v\n%s", err, output)
		}
		t.Cleanup(func() {
			purge := exec.Command("dpkg", "--purge", "valetkey")
			purge.Env = install.Env
			if output, err := purge.CombinedOutput(); err != nil {
				t.Errorf("purge: %v\n%s", err, output)
			}
			if _, err := os.Stat("/var/lib/valetkey"); err != nil {
				t.Error("a purge removes the data")
			}
			os.RemoveAll("/var/lib/valetkey")
			exec.Command("/usr/sbin/deluser", "--system", "valetkey").Run()
		})
	} else if output, err := exec.Command("dpkg-deb", "--extract", file, installed).CombinedOutput(); err != nil {
		t.Fatalf("extract: %v\n%s", err, output)
	}
	unit, err := os.ReadFile(filepath.Join(installed, "lib/systemd/system/valetkey.service"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(unit), "\nExecStart=/usr/bin/valetkey serve --config /etc/valetkey/valetkey.yaml\n") {
		t.Errorf("the unit starts another program:\n%s", unit)
	}
	if analyze, err := exec.LookPath("systemd-analyze"); err == nil && os.Getuid() == 0 {
		if output, err := exec.Command(analyze, "verify", "/lib/systemd/system/valetkey.service", "/lib/systemd/system/valetkey.socket").CombinedOutput(); err != nil {
			t.Errorf("systemd-analyze verify: %v\n%s", err, output)
		}
	}

	// Start it with the configuration of the package, on a free port.
	address := freeAddress(t)
	command := exec.Command(filepath.Join(installed, "usr/bin/valetkey"), "serve", "--config", filepath.Join(installed, "etc/valetkey/valetkey.yaml"), "--listen", address, "--issuer", "http://"+address)
	command.Env = append(os.Environ(), "VALETKEY_DATABASE=sqlite:"+filepath.Join(dir, "v.db"))
	if os.Getuid() == 0 {
		command = exec.Command("runuser", "-u", "valetkey", "--", command.Path, "serve", "--config", "/etc/valetkey/valetkey.yaml", "--listen", address, "--issuer", "http://"+address)
		command.Env = append(os.Environ(), "VALETKEY_DATABASE=sqlite:/var/lib/valetkey/valetkey.db")
		command.Dir = "/"
	}
	start(t, address, command)
}

// TestUnit checks the restrictions of the unit, which must not keep the server from restricting itself.
func TestUnit(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	// The exposure is between 0 and 10; the threshold is in tenths.
	output, err := exec.Command(analyze, "security", "--offline=true", "--threshold=15", filepath.Join(root, "deploy/valetkey.service")).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, output)
	}
}
