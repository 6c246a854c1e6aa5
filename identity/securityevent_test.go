package identity

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

var eventsBegin = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

// Whoever causes many events of one kind cannot flush out the one that matters.
func TestSecurityEventsAreBounded(t *testing.T) {
	var u User
	u.AddEvent(eventsBegin, SecurityEvent{Kind: EventAddressChanged, Detail: "thief@example.com"})
	for i := range 1000 {
		at := eventsBegin.Add(time.Duration(i) * time.Minute)
		u.AddEvent(at, SecurityEvent{Kind: EventFactorFailed, Browser: strings.Repeat("b", 1000), Detail: strings.Repeat("ä", 1000), Remote: netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)})})
	}
	events := u.RecentEvents(eventsBegin.Add(1000 * time.Minute))
	if len(events) > maxEvents || len(events) < 10 || eventBytes(events) > maxEventBytes {
		t.Errorf("%d events in %d bytes", len(events), eventBytes(events))
	}
	if last := events[len(events)-1]; last.Kind != EventAddressChanged {
		t.Errorf("the change of the address is gone; the oldest event is %q", last.Kind)
	}
	if later := u.RecentEvents(eventsBegin.Add(EventLifetime + 17*time.Hour)); len(later) != 0 {
		t.Errorf("%d events after 90 days", len(later))
	}
}

func TestEqualSecurityEventsAreOne(t *testing.T) {
	var u User
	for i := range 5 {
		u.AddEvent(eventsBegin.Add(time.Duration(i)*10*time.Minute), SecurityEvent{Kind: EventFactorFailed})
	}
	u.AddEvent(eventsBegin.Add(3*time.Hour), SecurityEvent{Kind: EventFactorFailed})
	var counts []int
	for _, e := range u.RecentEvents(eventsBegin.Add(3 * time.Hour)) {
		counts = append(counts, e.Count)
	}
	if !slices.Equal(counts, []int{0, 5}) {
		t.Errorf("counts %v", counts)
	}
}

// After a lock-down, authenticators of the last days may be the thief's. They are kept if there is no
// older one: otherwise the button would be a way to get rid of the second factor.
func TestUnlockKeepsTheSecondFactor(t *testing.T) {
	old, recent := eventsBegin.Add(-30*24*time.Hour), eventsBegin.Add(-24*time.Hour)
	for _, test := range []struct {
		have string
		want string
	}{
		{"old totp", "[totp-old]"},
		{"old totp, recent totp", "[totp-old]"},
		{"recent totp", "[totp-recent]"},
		{"old recoverycode, recent totp", "[recovery_code-old totp-recent]"},
		{"old totp, recent recoverycode", "[totp-old]"},
	} {
		u := User{Account: AccountData{LockedAt: eventsBegin}}
		for _, one := range strings.Split(test.have, ", ") {
			age, kind, _ := strings.Cut(one, " ")
			a := Authenticator{Kind: MethodTOTP, CreatedAt: old, ID: "totp-" + age}
			if kind == "recoverycode" {
				a.Kind, a.ID = MethodRecoveryCode, "recovery_code-"+age
			}
			if age == "recent" {
				a.CreatedAt = recent
			}
			u.Authenticators = append(u.Authenticators, a)
		}
		u.unlock(eventsBegin.Add(time.Hour))
		var left []string
		for _, a := range u.Authenticators {
			left = append(left, a.ID)
		}
		if got := fmt.Sprint(left); got != test.want || !u.Account.LockedAt.IsZero() {
			t.Errorf("%s: %s, want %s", test.have, got, test.want)
		}
	}
}
