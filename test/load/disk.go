package main

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"
)

// disk measures what the disk needs for a commit while the requests are sent: a process writes a page of
// a file in place and calls fsync, some times a second. A request that waits for a commit cannot be faster.
type disk struct {
	command *exec.Cmd

	mu    sync.Mutex
	times []time.Duration // since taken was last called
}

const (
	diskPage  = 4096
	diskPause = 20 * time.Millisecond
)

// startDisk starts the process. A separate one measures only the disk: in this one, a goroutine waits for
// others when its system call returns.
func startDisk(ctx context.Context, self, dir string) (*disk, error) {
	command := exec.CommandContext(ctx, self, diskCommand, filepath.Join(dir, "fsync"))
	command.Stderr = os.Stderr
	out, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("measure the disk: %w", err)
	}
	d := &disk{command: command}
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if took, err := strconv.ParseInt(lines.Text(), 10, 64); err == nil {
				d.mu.Lock()
				d.times = append(d.times, time.Duration(took))
				d.mu.Unlock()
			}
		}
	}()
	return d, nil
}

// taken returns the times since the last call. The nil *disk has none.
func (d *disk) taken() []time.Duration {
	if d == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	times := d.times
	d.times = nil
	return times
}

func (d *disk) stop() {
	// It may already have ended.
	_ = d.command.Process.Kill()
	_ = d.command.Wait()
}

const diskCommand = "disk"

func isDisk() bool { return len(os.Args) == 3 && os.Args[1] == diskCommand }

// measureDisk is the process: it writes how long each fsync took, in nanoseconds, until out is closed.
func measureDisk(path string, out io.Writer) (err error) {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = cmp.Or(err, file.Close()) }()
	page := make([]byte, diskPage)
	for {
		if _, err := file.WriteAt(page, 0); err != nil {
			return err
		}
		began := time.Now()
		if err := file.Sync(); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(out, time.Since(began).Nanoseconds()); err != nil {
			return err
		}
		time.Sleep(diskPause)
	}
}

// percentile returns one of sorted times in milliseconds; 0 if there are none.
func percentile(times []time.Duration, p int) float64 {
	if len(times) == 0 {
		return 0
	}
	slices.Sort(times)
	return float64(times[len(times)*p/100]) / float64(time.Millisecond)
}
