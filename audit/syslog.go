package audit

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"
)

// Syslog sends records to a syslog receiver (RFC 5424): over TLS (RFC 5425) or TCP, each message after
// its length (RFC 6587, section 3.4.1), or over UDP (RFC 5426), where messages may be lost.
type Syslog struct {
	network, address string
	tls              *tls.Config
	conn             net.Conn
}

const (
	// syslogTimeout limits how long a connection, and the writing of one batch, may take.
	syslogTimeout = 10 * time.Second
	// facility 13 is "log audit", severity 5 a notice and 4 a warning (RFC 5424, section 6.2.1).
	syslogNotice, syslogWarning = 13*8 + 5, 13*8 + 4
	// maxDatagram is how much of a message is sent over UDP (RFC 5426, section 3.2).
	maxDatagram = 8 << 10
)

// NewSyslog returns a sender for tls://HOST:PORT, tcp://HOST:PORT or udp://HOST:PORT. It connects when
// something is sent.
func NewSyslog(target string, config *tls.Config) (*Syslog, error) {
	u, err := url.Parse(target)
	if err != nil || u.Port() == "" || u.Hostname() == "" || u.Path != "" || u.User != nil || u.RawQuery != "" {
		return nil, fmt.Errorf("%q is not the address of a syslog receiver (for example, tls://logs.example.com:6514)", target)
	}
	s := &Syslog{address: u.Host}
	switch u.Scheme {
	case "tls":
		if config == nil {
			config = &tls.Config{}
		}
		s.network, s.tls = "tcp", config.Clone()
		s.tls.ServerName = u.Hostname()
		s.tls.MinVersion = max(s.tls.MinVersion, tls.VersionTLS12)
	case "tcp", "udp":
		s.network = u.Scheme
	default:
		return nil, fmt.Errorf("%q begins with neither tls://, tcp:// nor udp://", target)
	}
	return s, nil
}

// Send sends messages, and closes the connection if that fails: the receiver may have got some of them.
func (s *Syslog) Send(ctx context.Context, messages ...[]byte) (err error) {
	ctx, cancel := context.WithTimeout(ctx, syslogTimeout)
	defer cancel()
	if s.conn == nil {
		if err := s.connect(ctx); err != nil {
			return fmt.Errorf("connect to syslog: %w", err)
		}
	}
	deadline, _ := ctx.Deadline()
	if err = s.conn.SetWriteDeadline(deadline); err == nil {
		err = s.write(messages)
	}
	if err != nil {
		s.Close()
		return fmt.Errorf("send to syslog: %w", err)
	}
	return nil
}

func (s *Syslog) connect(ctx context.Context) (err error) {
	if s.tls != nil {
		s.conn, err = (&tls.Dialer{Config: s.tls}).DialContext(ctx, s.network, s.address)
	} else {
		s.conn, err = (&net.Dialer{}).DialContext(ctx, s.network, s.address)
	}
	if err != nil {
		s.conn = nil
	}
	return err
}

func (s *Syslog) write(messages [][]byte) error {
	if s.network == "udp" {
		for _, m := range messages {
			if _, err := s.conn.Write(m[:min(len(m), maxDatagram)]); err != nil {
				return err
			}
		}
		return nil
	}
	var all bytes.Buffer
	for _, m := range messages {
		fmt.Fprintf(&all, "%d ", len(m))
		all.Write(m)
	}
	_, err := s.conn.Write(all.Bytes())
	return err
}

// Close closes the connection, if there is one.
func (s *Syslog) Close() {
	if s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
}

// SyslogMessage returns a record as a message of RFC 5424: the record as JSON, after structured data
// with the sequence number (section 7.3.1).
func (r *Record) SyslogMessage() []byte {
	priority := syslogNotice
	if e := EventByName(r.Event); e != nil && e.Failed {
		priority = syslogWarning
	}
	data := fmt.Sprintf(`[origin software="valetkey"][meta sequenceId="%d"]`, (r.Sequence-1)%(1<<31-1)+1)
	return syslogMessage(priority, r.Time, r.Event, data, string(r.JSONLine()))
}

// SyslogMessage returns a checkpoint as a message of RFC 5424.
func (c *Checkpoint) SyslogMessage() []byte {
	return syslogMessage(syslogNotice, c.Time, "audit.checkpoint", "-", c.Text)
}

func syslogMessage(priority int, at time.Time, id, data, text string) []byte {
	host, err := os.Hostname()
	if err != nil || host == "" || len(host) > 255 {
		host = "-"
	}
	if id = id[:min(len(id), 32)]; strings.ContainsFunc(id, func(c rune) bool { return c <= ' ' || c > '~' }) { // MSGID, RFC 5424, section 6
		id = "-"
	}
	return fmt.Appendf(nil, "<%d>1 %s %s valetkey %d %s %s %s", priority, at.Format(timeFormat), host, os.Getpid(), id, data, text)
}
