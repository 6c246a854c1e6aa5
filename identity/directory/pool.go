package directory

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-ldap/ldap/v3"

	"github.com/valetkey/valetkey/identity"
)

const (
	// maxIdle is how long an unused connection is kept. One that was unused for longer than unchecked
	// is tried before it is used.
	maxIdle   = time.Minute
	unchecked = 10 * time.Second
)

// pool keeps connections of one kind. Their number is limited: who needs one waits until it is free.
type pool struct {
	open  func(ctx context.Context) (*connection, error)
	slots chan struct{}

	mu   sync.Mutex
	idle []*connection
}

func newPool(size int, open func(ctx context.Context) (*connection, error)) *pool {
	return &pool{open: open, slots: make(chan struct{}, size)}
}

// use calls do with a connection. If a connection that was kept does not work, a new one is used.
func (p *pool) use(ctx context.Context, do func(*connection) error) error {
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		// The directory is not to blame, so it is not left alone afterwards.
		return fmt.Errorf("all connections to the directory are in use: %w", identity.ErrBusy)
	}
	if c := p.kept(ctx); c != nil {
		err := c.do(ctx, func() error { return do(c) })
		p.put(c, err)
		if !errors.Is(err, ErrUnavailable) || ctx.Err() != nil {
			return err
		}
	}
	c, err := p.open(ctx)
	if err != nil {
		return err
	}
	err = c.do(ctx, func() error { return do(c) })
	p.put(c, err)
	return err
}

// kept returns the connection that was used last; nil if there is none that works.
func (p *pool) kept(ctx context.Context) *connection {
	for {
		p.mu.Lock()
		last := len(p.idle) - 1
		if last < 0 {
			p.mu.Unlock()
			return nil
		}
		c := p.idle[last]
		p.idle = p.idle[:last]
		p.mu.Unlock()
		unused := time.Since(c.used)
		if !c.IsClosing() && unused < maxIdle && (unused < unchecked || c.healthy(ctx)) {
			return c
		}
		c.Close()
	}
}

// healthy reports whether the server still responds on the connection.
func (c *connection) healthy(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return c.do(ctx, func() error {
		_, err := c.Search(ldap.NewSearchRequest("", ldap.ScopeBaseObject, ldap.NeverDerefAliases, 1, 1, false, "(objectClass=*)", []string{"1.1"}, nil))
		return err
	}) == nil
}

// put keeps a connection for the next use, unless it does not work.
func (p *pool) put(c *connection, err error) {
	if errors.Is(err, ErrUnavailable) || c.IsClosing() {
		c.Close()
		return
	}
	c.used = time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = append(p.idle, c)
}

// close closes what is not in use.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.idle {
		c.Close()
	}
	p.idle = nil
}
