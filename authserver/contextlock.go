package authserver

import "context"

// contextLock is a mutex for work that asks the store: whoever waits for it gives up with
// the request.
type contextLock chan struct{}

func newContextLock() contextLock { return make(contextLock, 1) }

func (l contextLock) lock(ctx context.Context) error {
	select {
	case l <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l contextLock) tryLock() bool {
	select {
	case l <- struct{}{}:
		return true
	default:
		return false
	}
}

func (l contextLock) unlock() { <-l }
