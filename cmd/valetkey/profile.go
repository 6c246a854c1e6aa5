//go:build profile

package main

import (
	"fmt"
	"os"
	"runtime/pprof"
)

// profiled writes a CPU profile of the whole run to the file that VALETKEY_PROFILE names.
// test/load builds the command with it; no other build has it.
func profiled(run func() int) int {
	path := os.Getenv("VALETKEY_PROFILE")
	if path == "" {
		return run()
	}
	file, err := os.Create(path)
	if err == nil {
		err = pprof.StartCPUProfile(file)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "valetkey: profile:", err)
		return exitFailed
	}
	code := run()
	pprof.StopCPUProfile()
	if err := file.Close(); err != nil {
		fmt.Fprintln(os.Stderr, "valetkey: profile:", err)
		return exitFailed
	}
	return code
}
