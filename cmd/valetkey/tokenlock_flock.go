//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// lockToken waits until no other process renews a kept token, because a refresh token can be used
// once, or until ctx is done. The system ends the lock when the process ends.
func lockToken(ctx context.Context, name string) (unlock func(), err error) {
	file, err := tokenFile(name)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, fmt.Errorf("lock the kept token: %w", err)
	}
	lock, err := os.OpenFile(file+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the kept token: %w", err)
	}
	// A blocking flock would ignore ctx.
	retry := time.NewTicker(50 * time.Millisecond)
	defer retry.Stop()
	for {
		err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { lock.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			lock.Close()
			return nil, fmt.Errorf("lock the kept token: %w", err)
		}
		select {
		case <-ctx.Done():
			lock.Close()
			return nil, fmt.Errorf("wait for another valetkey that renews the kept token: %w", ctx.Err())
		case <-retry.C:
		}
	}
}
