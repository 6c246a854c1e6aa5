package client

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
)

// flight lets callers that want the same thing at the same time share one request for
// it. The request belongs to none of them: whoever stops waiting fails nobody else.
type flight[T any] struct {
	mu      sync.Mutex
	current *call[T]
}

type call[T any] struct {
	done  chan struct{}
	value T
	err   error
}

func (f *flight[T]) underWay() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.current != nil
}

// do joins the call that is under way or starts one. run has the values of the first
// caller's context, not its end; it must end by itself.
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
			shared.err = errEnded // unless run returns
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

// errEnded is the outcome of a call whose goroutine was ended by runtime.Goexit.
var errEnded = errors.New("client: a callback ended its goroutine")

// caught turns a panic of run into an error. run calls what the embedder brought, in a
// goroutine where no handler's recover would keep the process alive; and those who wait must
// learn that it is over.
func caught[T any](run func() (T, error)) (value T, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("client: a callback panicked: %v\n%s", cause, debug.Stack())
		}
	}()
	return run()
}
