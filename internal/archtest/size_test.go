package archtest

import (
	"debug/buildinfo"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// How large the program may become. Users have to trust the authors of every module.
const (
	mostMiB     = 32
	mostModules = 75
)

func TestSizeOfTheBinary(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program")
	}
	path := filepath.Join(t.TempDir(), "valetkey")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, module+"/cmd/valetkey")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, output)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	built, err := buildinfo.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	mib := float64(info.Size()) / (1 << 20)
	t.Logf("note: cmd/valetkey has %.1f MiB and %d modules", mib, len(built.Deps))
	if mib > mostMiB {
		t.Errorf("the binary has %.1f MiB, but must not have more than %d", mib, mostMiB)
	}
	if len(built.Deps) > mostModules {
		t.Errorf("the binary has %d modules, but must not have more than %d", len(built.Deps), mostModules)
	}
	for _, dependency := range built.Deps {
		t.Logf("  %s %s", dependency.Path, dependency.Version)
	}
}
