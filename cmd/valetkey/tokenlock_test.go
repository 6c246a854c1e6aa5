//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package main

import (
	"context"
	"errors"
	"testing"
	"time"
)

// A process that keeps the lock does not stop others for longer than they are willing to wait.
func TestLockOfATokenHasADeadline(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	unlock, err := lockToken(t.Context(), "default")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := lockToken(ctx, "default"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the second lock: %v", err)
	}
	unlock()
	if unlock, err = lockToken(t.Context(), "default"); err != nil {
		t.Fatal(err)
	}
	unlock()
}
