package directory

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// maxResponseBytes limits what a directory sends in response to one operation.
const maxResponseBytes = 64 << 20

// connection is a connection to a server of the directory.
type connection struct {
	*ldap.Conn
	raw  *limitedConn
	used time.Time
}

// limitedConn fails if the other side sends too much.
type limitedConn struct {
	net.Conn
	left atomic.Int64
}

var errTooMuch = errors.New("directory: the response is too large")

func (c *limitedConn) Read(p []byte) (int, error) {
	if c.left.Load() <= 0 {
		return 0, errTooMuch
	}
	n, err := c.Conn.Read(p)
	c.left.Add(-int64(n))
	return n, err
}

// connect returns a connection to the first server that responds, encrypted as configured. StartTLS
// that fails, or is refused, is never followed by an unencrypted connection.
func (d *Directory) connect(ctx context.Context) (*connection, error) {
	var problems []error
	first := int(d.lastGood.Load())
	for i := range d.servers {
		at := (first + i) % len(d.servers)
		// The first of several servers may use half of the time.
		attempt, cancel := ctx, context.CancelFunc(func() {})
		if deadline, ok := ctx.Deadline(); ok && i < len(d.servers)-1 {
			attempt, cancel = context.WithTimeout(ctx, time.Until(deadline)/2)
		}
		c, err := d.connectTo(attempt, d.servers[at])
		cancel()
		if err == nil {
			d.lastGood.Store(int32(at))
			return c, nil
		}
		problems = append(problems, fmt.Errorf("connect to %s: %w", d.servers[at].address, err))
		if ctx.Err() != nil {
			break
		}
	}
	return nil, fmt.Errorf("%w: %w", ErrUnavailable, errors.Join(problems...))
}

func (d *Directory) connectTo(ctx context.Context, to server) (*connection, error) {
	var dialer net.Dialer
	opened, err := dialer.DialContext(ctx, "tcp", to.address)
	if err != nil {
		return nil, err
	}
	raw := &limitedConn{Conn: opened}
	raw.left.Store(maxResponseBytes)
	if deadline, ok := ctx.Deadline(); ok {
		if err := opened.SetDeadline(deadline); err != nil {
			return nil, errors.Join(err, opened.Close())
		}
	}
	stop := context.AfterFunc(ctx, func() { opened.Close() })
	defer stop()
	config := &tls.Config{ServerName: to.host, RootCAs: d.authorities, MinVersion: tls.VersionTLS12}
	var stream net.Conn = raw
	if to.tls {
		encrypted := tls.Client(raw, config)
		if err := encrypted.HandshakeContext(ctx); err != nil {
			return nil, errors.Join(fmt.Errorf("TLS: %w", err), opened.Close())
		}
		stream = encrypted
	}
	c := &connection{Conn: ldap.NewConn(stream, to.tls), raw: raw}
	c.Start()
	c.SetTimeout(d.timeout)
	if to.startTLS {
		if err := c.StartTLS(config); err != nil {
			return nil, errors.Join(fmt.Errorf("StartTLS: %w", err), c.Close())
		}
		if _, encrypted := c.TLSConnectionState(); !encrypted {
			return nil, errors.Join(errors.New("StartTLS: the connection is not encrypted"), c.Close())
		}
	}
	if err := opened.SetDeadline(time.Time{}); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	d.trace.add("connect", "%s, %s", to.address, c.encryption())
	return c, nil
}

// encryption says how the connection is encrypted.
func (c *connection) encryption() string {
	state, ok := c.TLSConnectionState()
	if !ok {
		return "not encrypted"
	}
	return tls.VersionName(state.Version) + " with the certificate of " + state.PeerCertificates[0].Subject.String()
}

// do runs operations on a connection, which ends if they take longer than ctx allows.
func (c *connection) do(ctx context.Context, operations func() error) error {
	c.raw.left.Store(maxResponseBytes)
	if deadline, ok := ctx.Deadline(); ok {
		c.SetTimeout(max(time.Until(deadline), time.Millisecond))
	}
	stop := context.AfterFunc(ctx, func() { c.raw.Close() })
	err := operations()
	if !stop() { // it was closed while the operation ran
		return fmt.Errorf("%w: %w", ErrUnavailable, context.Cause(ctx))
	}
	return unavailable(err)
}

// unavailable wraps errors of a directory that does not respond in ErrUnavailable, and returns others as
// they are.
func unavailable(err error) error {
	if err == nil || errors.Is(err, ErrUnavailable) {
		return err
	}
	if ldap.IsErrorAnyOf(err, ldap.ErrorNetwork, ldap.LDAPResultTimeout, ldap.LDAPResultBusy, ldap.LDAPResultUnavailable, ldap.LDAPResultTimeLimitExceeded,
		ldap.LDAPResultServerDown, ldap.LDAPResultConnectError, ldap.ErrorUnexpectedMessage, ldap.ErrorUnexpectedResponse) {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}
