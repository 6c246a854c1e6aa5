package manage_test

import (
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/valetkey/valetkey/manage/api"
)

func TestHealth(t *testing.T) {
	s := start(t, nil)
	c := s.connect(s.token(t, "auditor", nil))
	health, err := c.Health(t.Context())
	if err != nil || !health.Ready || health.NotReady != "" || len(health.Outboxes) != 3 || health.StartedAt.IsZero() {
		t.Fatalf("health %+v %v", health, err)
	}
	if !slices.ContainsFunc(health.Activity, func(e api.EventCount) bool { return e.Event == "client.created" && e.Count == 6 }) {
		t.Errorf("activity %+v", health.Activity)
	}
	_, err = s.connect(s.token(t, "support", nil)).Health(t.Context())
	wantStatus(t, "health for support", err, http.StatusForbidden)
	s.SetReadinessDetail("configuration", "the file was not applied")
	if health, err = c.Health(t.Context()); err != nil || !slices.Equal(health.Details, []string{"configuration: the file was not applied"}) {
		t.Errorf("details %+v %v", health, err)
	}
}

// The checks ask the server itself, once for all who want to know, and not again at once.
func TestHealthChecks(t *testing.T) {
	s := start(t, nil)
	c := s.connect(s.token(t, "operator", nil))
	results := make([]*api.HealthChecks, 8)
	var asking sync.WaitGroup
	for i := range results {
		asking.Go(func() {
			for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
				got, err := c.HealthChecks(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				if results[i] = got; !got.Running {
					return
				}
			}
		})
	}
	asking.Wait()
	for _, got := range results {
		if got == nil || got.CheckedAt == nil || !got.CheckedAt.Equal(*results[0].CheckedAt) {
			t.Fatalf("the checks ran more than once, or not: %+v", got)
		}
	}
	if !slices.Contains(results[0].Passed, "signing") || !slices.Contains(results[0].Passed, "database") {
		t.Errorf("result %+v", results[0])
	}
	for _, f := range results[0].Findings {
		if f.Severity == "error" && f.Name != "files.unusable" { // there is no /etc/valetkey.yaml
			t.Errorf("finding %+v", f)
		}
	}
}
