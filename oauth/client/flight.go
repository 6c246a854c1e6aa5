package client

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
)

// flight lets concurrent callers share one request. The request does not depend on any of
// their contexts: when one caller stops waiting, the others still get the result.
type flight[T any] struct {
	mu      sync.Mutex
	current *call[T]
}

type call[T any] struct {
	done  chan struct{}
	value T
	err   error
}

func (f *flight[T]) running() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.current != nil
}

// do joins the current call or starts one. run gets a context with the values of the first
// caller's context, but without its cancellation, so run needs its own timeout.
func (f *flight[T]) do(ctx context.Context, run func(context.Context) (T, error)) (T, error) {
	f.mu.Lock()
	shared := f.current
	if shared == nil {
		shared = &call[T]{done: make(chan struct{})}
		f.current = shared
		go func() {
			defer func() {
				f.mu.Lock()
				f.current = nil
				f.mu.Unlock()
				close(shared.done)
			}()
			shared.err = errEnded // replaced when run returns
			shared.value, shared.err = caught(func() (T, error) { return run(context.WithoutCancel(ctx)) })
		}()
	}
	f.mu.Unlock()
	select {
	case <-shared.done:
		return shared.value, shared.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}

// errEnded is the result of a call whose goroutine was ended by runtime.Goexit.
var errEnded = errors.New("client: a callback called runtime.Goexit")

// caught turns a panic in run into an error. run calls functions of the application in a
// goroutine where no handler's recover would keep the process alive, and the waiting callers
// need a result.
func caught[T any](run func() (T, error)) (value T, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("client: a callback panicked: %v\n%s", cause, debug.Stack())
		}
	}()
	return run()
}
