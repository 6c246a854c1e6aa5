package declaration

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// The kinds of records.
const (
	KindClient   = "client"
	KindUser     = "user"
	KindScope    = "scope"
	KindResource = "resource"
)

// What happens to a record.
const (
	ActionAdd      = "add"
	ActionChange   = "change"
	ActionRetire   = "retire"   // it was declared before and no longer is
	ActionRestore  = "restore"  // it was retired and is declared again
	ActionRemove   = "remove"   // permanently
	ActionDisplace = "displace" // a signed-up account loses an identifier that is declared
	ActionConflict = "conflict" // it is not changed; Problem is the reason
	ActionNone     = "none"     // it is not changed; NotNamed lists members that may be a surprise
)

// Change is one line of a diff between declarations and a database.
type Change struct {
	Kind   string `json:"kind"`   // client, user, scope or resource
	Name   string `json:"name"`   // client_id, username, name or identifier
	Action string `json:"action"` // one of the Action constants
	// Members are those that differ, with their old and new values. Secrets are shown as
	// "(secret)".
	Members []MemberChange `json:"members,omitempty"`
	// Adopted reports that the record was a signed-up account, or a client that registered
	// itself.
	Adopted bool `json:"adopted,omitempty"`
	// NotNamed are members that the source named before and no longer names. They keep their
	// values; null removes them.
	NotNamed []string `json:"not_named,omitempty"`
	// Problem is why a record could not be declared.
	Problem string `json:"problem,omitempty"`
	// Err is the error behind Problem.
	Err error `json:"-"`
}

// Happens reports whether the change changes anything.
func (c *Change) Happens() bool { return c.Action != ActionConflict && c.Action != ActionNone }

// Count returns the number of changes that change anything.
func Count(changes []Change) int {
	n := 0
	for i := range changes {
		if changes[i].Happens() {
			n++
		}
	}
	return n
}

// ConflictError reports the records that could not be declared. All others were.
type ConflictError struct{ err error }

func (e *ConflictError) Error() string { return e.err.Error() }

// Unwrap returns the errors of the records.
func (e *ConflictError) Unwrap() error { return e.err }

// Conflicts returns a *ConflictError if some of the changes are conflicts.
func Conflicts(changes []Change) error {
	var errs []error
	for i := range changes {
		if c := &changes[i]; c.Action == ActionConflict {
			errs = append(errs, fmt.Errorf("%s %q: %w", c.Kind, c.Name, c.Err))
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return &ConflictError{errors.Join(errs...)}
}

// MemberChange is a member that differs. The values are JSON; "" if it is absent.
type MemberChange struct {
	Name string `json:"name"`
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
}

// secretMember is shown instead of every value that a diff must not show.
const secretMember = "(secret)"

// memberChanges compares two records as JSON. before is nil for a new one.
func memberChanges(before, after any, secret string, secretChanged bool) []MemberChange {
	var changes []MemberChange
	from, to := jsonMembers(before), jsonMembers(after)
	names := map[string]bool{}
	for member := range from {
		names[member] = true
	}
	for member := range to {
		names[member] = true
	}
	for member := range names {
		if !reflect.DeepEqual(from[member], to[member]) {
			changes = append(changes, MemberChange{member, jsonText(from[member]), jsonText(to[member])})
		}
	}
	slices.SortFunc(changes, func(a, b MemberChange) int { return strings.Compare(a.Name, b.Name) })
	if secretChanged {
		changes = append(changes, MemberChange{Name: secret, To: secretMember})
	}
	return changes
}

// jsonMembers returns a record as a JSON object; false, empty and absent are the same.
func jsonMembers(record any) map[string]any {
	members := map[string]any{}
	document, err := json.Marshal(record)
	if err != nil || record == nil || json.Unmarshal(document, &members) != nil {
		return map[string]any{}
	}
	for name, value := range members {
		if value == false || value == "" || value == nil {
			delete(members, name)
		}
	}
	delete(members, "retired_at")
	return members
}

func jsonText(value any) string {
	if value == nil {
		return ""
	}
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprint(value)
	}
	return string(text)
}
