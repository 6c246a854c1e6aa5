package client

import (
	"context"
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
			shared.value, shared.err = run(context.WithoutCancel(ctx))
			f.mu.Lock()
			f.current = nil
			f.mu.Unlock()
			close(shared.done)
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
