package archtest

import (
	"debug/buildinfo"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// How large the program may become. Users have to trust the authors of every module.
const (
	mostMiB     = 40
	mostModules = 60
	// How much may be allocated before main, by packages of this module and by all packages. A
	// regular expression or a template that is compiled there takes 50 to 1,000 allocations, also
	// for commands that do not use it.
	mostOwnAllocations = 3_000
	mostAllocations    = 8_500
)

// program is the command, built as releases are.
func program(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("builds the program")
	}
	path := filepath.Join(t.TempDir(), "valetkey")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, module+"/cmd/valetkey")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, output)
	}
	return path
}

// initialized is a line of GODEBUG=inittrace=1.
var initialized = regexp.MustCompile(`^init (\S+) @.*, (\d+) bytes, (\d+) allocs$`)

func TestInitializationAllocatesLittle(t *testing.T) {
	command := exec.Command(program(t), "version")
	command.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	output, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("valetkey version: %v\n%s", err, output)
	}
	own, all := 0, 0
	for line := range strings.Lines(string(output)) {
		match := initialized.FindStringSubmatch(strings.TrimSpace(line))
		if match == nil {
			continue
		}
		n, err := strconv.Atoi(match[3])
		if err != nil {
			t.Fatal(err)
		}
		all += n
		if strings.HasPrefix(match[1], module+"/") {
			own += n
			t.Logf("%5d allocations of %s", n, match[1])
		}
	}
	t.Logf("note: %d allocations before main, %d of them by packages of this module", all, own)
	if own == 0 {
		t.Fatalf("no package of this module is in the trace:\n%s", output)
	}
	if own > mostOwnAllocations || all > mostAllocations {
		t.Errorf("the limits are %d and %d allocations", mostOwnAllocations, mostAllocations)
	}
}

func TestSizeOfTheBinary(t *testing.T) {
	path := program(t)
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
