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
	// lookEvery is how often files are looked at. Looking works where notification does not:
	// on network file systems, through symbolic links, and after a rename of a folder.
	lookEvery = 250 * time.Millisecond
	// settleTime is for how long a file must not have changed before it is read. A writer
	// that pauses for longer leaves a file that only its content can show to be torn.
	settleTime = 2 * time.Second
	// settlePatience is after how long a file that never comes to rest is complained about.
	settlePatience = time.Minute
	// retryAfter is when a file is tried again that is right but could not be applied.
	retryAfter = 15 * time.Second
)

// stamp is what the file system says of a file, links followed. Equal stamps mean that
// nobody wrote in between.
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

// stampsOf are the stamps of several files that are read together.
func stampsOf(paths []string) []stamp {
	stamps := make([]stamp, len(paths))
	for i, path := range paths {
		stamps[i] = stampOf(path)
	}
	return stamps
}

func equalStamps(a, b []stamp) bool { return slices.EqualFunc(a, b, stamp.equal) }

// fileWatch finds out when files have changed and have come to rest since.
type fileWatch struct {
	paths   []string
	seen    []stamp
	since   time.Time // when seen was seen first
	began   time.Time // when the files began to change; zero if they rest
	handled []stamp   // what the last attempt read
	retry   time.Time // when to try again; zero if not
}

// look reports whether the files are to be read now, and how long they have been changing.
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

// done notes that the files were read as they were when look said so, and from when on to
// read them again unchanged (zero: never). If other files matter from now on, all are read
// once those have come to rest too.
func (w *fileWatch) done(paths []string, retry time.Time) {
	w.handled, w.retry = w.seen, retry
	if !slices.Equal(paths, w.paths) {
		w.paths, w.handled = paths, nil
	}
}

// errUnsettled is the error of a file that does not come to rest.
var errUnsettled = errors.New("the file keeps changing")

// waitSettled returns when a file has not changed for the settle time. What is not a regular
// file, such as a pipe, is not waited for.
//
// A new database is no reason to skip this: the line that names another one may be missing,
// and settings are not read again.
func waitSettled(ctx context.Context, path string) error {
	first := stampOf(path)
	if first.err == nil && !first.info.Mode().IsRegular() {
		return nil
	}
	watch := fileWatch{paths: []string{path}, seen: []stamp{first}, since: time.Now()}
	if first.err == nil && first.info.ModTime().Before(watch.since) {
		watch.since = first.info.ModTime() // only the rest is waited for
	}
	for look := time.NewTicker(lookEvery); ; {
		due, changing := watch.look(time.Now())
		switch {
		case due && watch.seen[0].err != nil:
			return fmt.Errorf("read configuration: %w", watch.seen[0].err)
		case due:
			return nil
		case changing > settlePatience:
			return fmt.Errorf("%s: %w; nothing was read", path, errUnsettled)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-look.C:
		}
	}
}
