package identity

import (
	"encoding/json"
	"net/netip"
	"slices"
	"time"
)

// EventKind is the kind of a security event, as it is stored.
type EventKind string

// The kinds of security events.
const (
	EventNewDevice         EventKind = "new_device"
	EventFactorFailed      EventKind = "factor_failed"
	EventPasswordChanged   EventKind = "password_changed"
	EventPasswordReset     EventKind = "password_reset"
	EventAddressChanged    EventKind = "address_changed"
	EventAddressRestored   EventKind = "address_restored"
	EventPasswordRemoved   EventKind = "password_removed"
	EventUserCodeChanged   EventKind = "user_code_changed"
	EventUsernameChanged   EventKind = "username_changed"
	EventUsernameTaken     EventKind = "username_taken"    // by a declaration of the operator
	EventUsernameReleased  EventKind = "username_released" // to the owner of the address that it is
	EventAddressTaken      EventKind = "address_taken"     // the same for the address
	EventMethodAdded       EventKind = "method_added"
	EventMethodRemoved     EventKind = "method_removed"
	EventMethodRestored    EventKind = "method_restored"
	EventRecovered         EventKind = "recovered"
	EventRecoveryBegun     EventKind = "recovery_begun"
	EventRecoveryStopped   EventKind = "recovery_stopped"
	EventAccessGranted     EventKind = "access_granted" // not stored: grants say it
	EventAccessRevoked     EventKind = "access_revoked"
	EventSessionEnded      EventKind = "session_ended"
	EventSessionsEnded     EventKind = "sessions_ended"
	EventLockedDown        EventKind = "locked_down"
	EventExported          EventKind = "exported"
	EventDeletionRequested EventKind = "deletion_requested"
	EventDeletionCanceled  EventKind = "deletion_canceled"
)

// SecurityEvent is something that users should recognize, on the account page.
type SecurityEvent struct {
	Kind EventKind `json:"kind"`
	At   time.Time `json:"at"`
	// Browser and Remote say from where; Detail is what: the name of an application or of a
	// method, an address, a username.
	Browser string     `json:"browser,omitempty"`
	Remote  netip.Addr `json:"remote,omitzero"`
	Detail  string     `json:"detail,omitempty"`
	// Count is how many events this one stands for; zero means one.
	Count int `json:"count,omitempty"`
}

const (
	// EventLifetime is how long security events are kept; at most maxEvents are, in maxEventBytes.
	EventLifetime = 90 * 24 * time.Hour
	maxEvents     = 60
	maxEventBytes = 16 << 10
	// Events of the same kind from the same place within mergeEvents are one event.
	mergeEvents = time.Hour
)

// AddEvent adds a security event to the record. Functions passed to Store.UpdateUser call it, so that
// the event is stored with the change that it is about.
//
// If there are too many, the oldest event of the most frequent kind is dropped: whoever causes many
// events of one kind cannot make the others disappear.
func (u *User) AddEvent(now time.Time, e SecurityEvent) {
	e.At = now.Truncate(time.Millisecond).UTC()
	e.Browser, e.Detail = cut(e.Browser, 64), cut(e.Detail, 254)
	events := slices.DeleteFunc(slices.Clone(u.Account.Events), func(old SecurityEvent) bool { return now.Sub(old.At) > EventLifetime })
	for i, old := range events {
		same := old.Kind == e.Kind && old.Browser == e.Browser && old.Remote == e.Remote && old.Detail == e.Detail
		if same && now.Sub(old.At) < mergeEvents {
			e.Count = max(old.Count, 1) + 1
			events = slices.Delete(events, i, i+1)
			break
		}
	}
	events = append(events, e)
	for len(events) > maxEvents || len(events) > 1 && eventBytes(events) > maxEventBytes {
		counts := map[EventKind]int{}
		most := events[0].Kind
		for _, e := range events {
			if counts[e.Kind]++; counts[e.Kind] > counts[most] {
				most = e.Kind
			}
		}
		i := slices.IndexFunc(events, func(e SecurityEvent) bool { return e.Kind == most })
		events = slices.Delete(events, i, i+1)
	}
	u.Account.Events = events
}

func eventBytes(events []SecurityEvent) int {
	encoded, err := json.Marshal(events)
	if err != nil {
		return 0 // strings, times and addresses always encode
	}
	return len(encoded)
}

// RecentEvents returns the security events of the last 90 days, the newest first.
func (u *User) RecentEvents(now time.Time) []SecurityEvent {
	events := slices.DeleteFunc(slices.Clone(u.Account.Events), func(e SecurityEvent) bool { return now.Sub(e.At) > EventLifetime })
	slices.Reverse(events)
	return events
}

// SortEvents sorts events, the newest first.
func SortEvents(events []SecurityEvent) {
	slices.SortStableFunc(events, func(a, b SecurityEvent) int { return b.At.Compare(a.At) })
}
