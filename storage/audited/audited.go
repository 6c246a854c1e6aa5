// Package audited compares a record before and after a change, for the audit log. Every store calls
// it in the operation that makes the change.
//
// A member of a user is in the audit log only if it is named here, so that a member that is added later,
// and may be a secret, is not in the log by mistake. A test fails if a member is neither shown nor left
// out on purpose. Of a client, every member is shown but the secrets: the others are its metadata, which
// are public, and its settings.
package audited

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/valetkey/valetkey/audit"
)

// maxValue is the length of a value in a record, in bytes. A longer one is represented by its hash.
const maxValue = 4 << 10

// members are what a record shows, by name. An empty or zero value is not set.
type members map[string]json.RawMessage

// set adds a member unless its value is the zero value of its type.
func (m members) set(name string, value any) {
	encoded, err := json.Marshal(value)
	if err != nil {
		encoded = []byte(`"(not encodable)"`)
	}
	switch string(encoded) {
	case `null`, `""`, `false`, `0`, `[]`, `{}`, `"0001-01-01T00:00:00Z"`:
		return
	}
	if len(encoded) > maxValue {
		digest := sha256.Sum256(encoded)
		encoded = fmt.Appendf(nil, `{"bytes":%d,"sha256":%q}`, len(encoded), hex.EncodeToString(digest[:]))
	}
	m[name] = encoded
}

func (m members) setTime(name string, t time.Time) {
	if !t.IsZero() {
		m.set(name, t.UTC().Format("2006-01-02T15:04:05.000Z"))
	}
}

// secret adds a member that is secret. The first argument is its current value, the second one
// that of the other side of the change: a secret that was replaced by another is marked, without
// its value.
func (m members) secret(name string, own, before string) {
	switch {
	case own == "":
	case before == "" || own == before:
		m[name] = json.RawMessage(audit.Secret)
	default:
		m[name] = json.RawMessage(audit.NewSecret)
	}
}

// differences returns the members of each side that differ from the other one.
func differences(before, after members) (old, new map[string]json.RawMessage) {
	add := func(to *map[string]json.RawMessage, name string, value json.RawMessage) {
		if *to == nil {
			*to = map[string]json.RawMessage{}
		}
		(*to)[name] = value
	}
	for name, value := range before {
		if !bytes.Equal(value, after[name]) {
			add(&old, name, value)
		}
	}
	for name, value := range after {
		if !bytes.Equal(value, before[name]) {
			add(&new, name, value)
		}
	}
	return old, new
}

// compare sets Before and After of a record, and reports whether they differ. A side that does not
// exist is nil.
func compare(r *audit.Record, before, after members) bool {
	r.Before, r.After = differences(before, after)
	return r.Before != nil || r.After != nil
}
