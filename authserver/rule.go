package authserver

import (
	"crypto/rand"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/record"
)

// rule is one thing that a request must satisfy, and what is said if it does not.
type rule struct {
	must    string // what must hold, for the ladder
	section string // where that is written
	code    oauth.ErrorCode
	says    string // error_description, for the client's developer
	fix     string // what the operator or developer can change
}

// rung is a rule that was looked at.
type rung struct {
	rule   *rule
	ok     bool
	detail string
}

// climb adds a rung. Most requests end within sixteen.
func (c *call) climb(r rung) {
	if c.rungs == nil {
		c.rungs = make([]rung, 0, 16)
	}
	c.rungs = append(c.rungs, r)
}

// must notes that r was checked and returns its error unless ok.
func (c *call) must(ok bool, r *rule) error {
	c.climb(rung{rule: r, ok: ok})
	if ok {
		return nil
	}
	return oauth.NewError(r.code, r.says)
}

// refuse is must for a rule that does not hold, with what was compared. The detail is
// for the operator; it may repeat what the client sent, but no secret.
func (c *call) refuse(r *rule, detail string) error {
	c.climb(rung{rule: r, detail: clip(detail)})
	return oauth.NewError(r.code, r.says)
}

// because keeps err, for the log, behind the refusal of a rule.
func (c *call) because(r *rule, err error) error {
	c.climb(rung{rule: r, detail: clip(err.Error())})
	return oauth.NewError(r.code, r.says).Because(err)
}

// clip bounds what a ladder keeps of a stranger's input.
func clip(s string) string {
	const most = 300
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

// trace returns the ladder of the request so far.
func (c *call) trace(err error) record.Trace {
	t := record.Trace{Time: c.now.UTC(), Endpoint: c.endpoint.path, Checks: make([]record.Check, len(c.rungs))}
	if c.client != nil {
		t.ClientID = c.client.ID
	}
	for i, r := range c.rungs {
		t.Checks[i] = record.Check{Rule: r.rule.must, Section: r.rule.section, OK: r.ok, Detail: r.detail}
		if !r.ok {
			t.Checks[i].Fix = r.rule.fix
		}
	}
	if e := oauth.AsError(err); e != nil {
		t.Error, t.Description = string(e.Code), e.Description
	} else if err != nil {
		t.Error = string(oauth.ServerError)
	}
	return t
}

// refused keeps the ladder of a request that failed and returns its reference.
func (c *call) refused(err error) string {
	if c.ref != "" {
		return c.ref
	}
	t := c.trace(err)
	t.Ref = newReference()
	c.ref = t.Ref
	c.s.traces.keep(t)
	return t.Ref
}

// newReference returns 40 random bits in the letters of Crockford's base 32, which
// people can read out.
func newReference() string {
	const letters = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	var b [8]byte
	rand.Read(b[:])
	var s [9]byte
	for i, v := range b {
		at := i
		if i > 3 {
			at++
		}
		s[at] = letters[v&31]
	}
	s[4] = '-'
	return string(s[:])
}

// expired reports whether a time has come, to the millisecond that stores keep.
func expired(now, at time.Time) bool { return !now.Before(at) }
