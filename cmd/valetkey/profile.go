//go:build profile

package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
)

// profiled writes a CPU profile of the whole run to the file that VALETKEY_PROFILE names, and a
// profile of the heap at its end to the same name with ".heap". test/load builds the command with
// it; no other build has it.
func profiled(run func() int) int {
	path := os.Getenv("VALETKEY_PROFILE")
	if path == "" {
		return run()
	}
	runtime.MemProfileRate = 16 << 10 // the live heap is small
	code := exitFailed
	err := writeProfile(path, func(file *os.File) error {
		if err := pprof.StartCPUProfile(file); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
		code = run()
		return nil
	})
	if err == nil {
		// As of the last garbage collection, which was under load: no other one follows it.
		err = writeProfile(path+".heap", func(file *os.File) error { return pprof.WriteHeapProfile(file) })
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "valetkey: profile:", err)
		return exitFailed
	}
	return code
}

func writeProfile(path string, write func(*os.File) error) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(write(file), file.Close())
}
