package authserver

import (
	"testing"
	"time"
)

func TestOfAcceptedRequestsASampleIsKept(t *testing.T) {
	var s sample
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	kept := 0
	for range 1000 {
		if s.take(now) {
			kept++
		}
	}
	if kept != sampleBurst {
		t.Errorf("%d of 1000 requests at the same time are kept", kept)
	}
	for i := range 1000 { // for ten seconds
		if s.take(now.Add(time.Duration(i) * 10 * time.Millisecond)) {
			kept++
		}
	}
	if kept < sampleBurst+9 || kept > sampleBurst+11 {
		t.Errorf("%d requests are kept after ten seconds", kept)
	}
	if !s.take(now.Add(time.Hour)) {
		t.Error("after a pause, no request is kept")
	}
}
