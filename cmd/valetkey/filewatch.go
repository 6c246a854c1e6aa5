package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"
)

// How a file is watched.
const (
	// lookEvery is how often files are checked. Polling works where notifications do not: on
	// network file systems, through symbolic links, and after a directory was renamed.
	lookEvery = 250 * time.Millisecond
	// settleTime is how long a file must be unchanged before it is read. If a writer pauses for
	// longer, only the content can show that the file is incomplete.
	settleTime = 2 * time.Second
	// settlePatience is after how long a file that keeps changing is reported.
	settlePatience = time.Minute
	// retryAfter is when a valid file that could not be applied is tried again.
	retryAfter = 15 * time.Second
)

// stamp is the file system's information about a file, with links followed. Equal stamps mean
// that the file was not written in between.
type stamp struct {
	info fs.FileInfo
	err  error
}

func stampOf(path string) stamp {
	info, err := os.Stat(path)
	return stamp{info, err}
}

func (s stamp) equal(t stamp) bool {
	if s.err != nil || t.err != nil {
		return s.err != nil && t.err != nil && s.err.Error() == t.err.Error()
	}
	return os.SameFile(s.info, t.info) && s.info.Size() == t.info.Size() && s.info.ModTime().Equal(t.info.ModTime()) &&
		s.info.Mode() == t.info.Mode()
}

// stampsOf returns the stamps of files that are read together.
func stampsOf(paths []string) []stamp {
	stamps := make([]stamp, len(paths))
	for i, path := range paths {
		stamps[i] = stampOf(path)
	}
	return stamps
}

func equalStamps(a, b []stamp) bool { return slices.EqualFunc(a, b, stamp.equal) }

// fileWatch detects when files have changed and settled.
type fileWatch struct {
	paths   []string
	seen    []stamp
	since   time.Time // when seen was first observed
	began   time.Time // when the files began to change; zero if they are settled
	handled []stamp   // what the last attempt read
	retry   time.Time // when to try again; zero if not
}

// look reports whether to read the files now, and how long they have been changing.
func (w *fileWatch) look(now time.Time) (due bool, changing time.Duration) {
	if stamps := stampsOf(w.paths); !equalStamps(stamps, w.seen) {
		w.seen, w.since = stamps, now
		if w.began.IsZero() {
			w.began = now
		}
	}
	if now.Sub(w.since) < settleTime {
		if !w.began.IsZero() {
			changing = now.Sub(w.began)
		}
		return false, changing
	}
	w.began = time.Time{}
	return !equalStamps(w.seen, w.handled) || !w.retry.IsZero() && !now.Before(w.retry), 0
}

// done records that the files were read after look returned true, and when to read them again
// even if they do not change (zero: never). If the set of files has changed, all are read again
// once the new ones have settled.
func (w *fileWatch) done(paths []string, retry time.Time) {
	w.handled, w.retry = w.seen, retry
	if !slices.Equal(paths, w.paths) {
		w.paths, w.handled = paths, nil
	}
}

// errUnsettled is the error for a file that keeps changing.
var errUnsettled = errors.New("the file keeps changing")

// waitSettled returns when a file has not changed for the settle time. It does not wait for
// anything but a regular file, such as a pipe.
//
// A new database is not a reason to skip this: the line that names another one may not be
// written yet, and settings are only read at the start.
func waitSettled(ctx context.Context, path string) error {
	first := stampOf(path)
	if first.err == nil && !first.info.Mode().IsRegular() {
		return nil
	}
	watch := fileWatch{paths: []string{path}, seen: []stamp{first}, since: time.Now()}
	if first.err == nil && first.info.ModTime().Before(watch.since) {
		watch.since = first.info.ModTime() // wait only for the remaining time
	}
	for look := time.NewTicker(lookEvery); ; {
		due, changing := watch.look(time.Now())
		switch {
		case due && watch.seen[0].err != nil:
			return fmt.Errorf("read configuration: %w", watch.seen[0].err)
		case due:
			return nil
		case changing > settlePatience:
			return fmt.Errorf("%s: %w; it was not read", path, errUnsettled)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-look.C:
		}
	}
}
