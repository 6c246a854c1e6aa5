package manage_test

import (
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/valetkey/valetkey"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/database"
	"github.com/valetkey/valetkey/manage/api"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

// explanations returns what a filter selects, when there is at least one. Traces are stored in the
// background.
func explanations(t *testing.T, c *api.Connection, filter url.Values) []api.Explanation {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		page, err := c.Explanations(t.Context(), api.List{Filter: filter, Limit: 200})
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Explanations) > 0 || time.Now().After(deadline) {
			return page.Explanations
		}
	}
}

func TestAcceptedRequestsAreExplained(t *testing.T) {
	s := start(t, nil)
	c := s.connect(s.token(t, "administrator", nil))
	if _, problem := s.requestToken(t, "support", url.Values{"scope": {"nonsense"}}); problem == "" {
		t.Fatal("the request was accepted")
	}
	found := explanations(t, c, url.Values{"client_id": {"administrator"}, "outcome": {"accepted"}, "endpoint": {"/token"}})
	if len(found) != 1 || found[0].Error != "" || len(found[0].Checks) == 0 || found[0].Ref == "" {
		t.Fatalf("accepted: %+v", found)
	}
	again, err := c.Explanation(t.Context(), found[0].Ref)
	if err != nil || again.ClientID != "administrator" {
		t.Errorf("by its reference: %+v %v", again, err)
	}
	refused := explanations(t, c, url.Values{"outcome": {"refused"}})
	if len(refused) != 1 || refused[0].ClientID != "support" {
		t.Errorf("refused: %+v", refused)
	}
	if late, err := c.Explanations(t.Context(), api.List{Filter: url.Values{"until": {time.Now().Add(-time.Hour).Format(time.RFC3339)}}}); err != nil || len(late.Explanations) != 0 {
		t.Errorf("before: %+v %v", late, err)
	}
}

func TestARecordingKeepsEveryAcceptedRequest(t *testing.T) {
	s := start(t, nil)
	c := s.connect(s.token(t, "administrator", nil))
	for range 40 { // more than are sampled
		s.token(t, "operator", nil)
	}
	_, err := c.CreateRecording(t.Context(), api.NewRecording{}, api.Change{})
	wantStatus(t, "a recording of nobody", err, http.StatusUnprocessableEntity)
	_, err = c.CreateRecording(t.Context(), api.NewRecording{ClientID: "none"}, api.Change{})
	wantStatus(t, "a recording of a client that does not exist", err, http.StatusNotFound)
	_, err = c.CreateRecording(t.Context(), api.NewRecording{ClientID: "auditor", Lifetime: record.Duration(2 * time.Hour)}, api.Change{})
	wantStatus(t, "a recording for two hours", err, http.StatusUnprocessableEntity)
	_, err = s.connect(s.token(t, "support", nil)).CreateRecording(t.Context(), api.NewRecording{ClientID: "auditor"}, api.Change{})
	wantStatus(t, "a recording by support", err, http.StatusForbidden)
	if _, err := c.CreateRecording(t.Context(), api.NewRecording{ClientID: "auditor"}, api.Change{DryRun: true}); err != nil {
		t.Fatal(err)
	}
	recording, err := c.CreateRecording(t.Context(), api.NewRecording{ClientID: "auditor"}, api.Change{})
	if err != nil {
		t.Fatal(err)
	}
	const requests = 30
	for range requests {
		s.token(t, "auditor", nil)
		s.token(t, "operator", nil)
	}
	list, err := c.Recordings(t.Context())
	if err != nil || len(list.Recordings) != 1 || list.Recordings[0].ID != recording.ID || list.Recordings[0].ClientID != "auditor" {
		t.Fatalf("recordings: %+v %v", list, err)
	}
	if err := c.EndRecording(t.Context(), recording.ID, api.Change{}); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, "ending it again", c.EndRecording(t.Context(), recording.ID, api.Change{}), http.StatusNotFound)
	for range 3 {
		s.token(t, "auditor", nil)
	}
	var found []api.Explanation
	for deadline := time.Now().Add(time.Minute); len(found) < requests && time.Now().Before(deadline); {
		found = explanations(t, c, url.Values{"client_id": {"auditor"}, "outcome": {"accepted"}})
	}
	if len(found) < requests || len(found) > requests+2 {
		t.Errorf("%d requests of %d were recorded", len(found), requests)
	}
	records, err := c.Audit(t.Context(), api.List{Filter: url.Values{"event": {"recording.*"}}})
	if err != nil || len(records.Records) != 2 || records.Records[1].ClientID != "auditor" {
		t.Errorf("audit: %+v %v", records, err)
	}
}

func TestFailedMessagesAreShownAndSentAgain(t *testing.T) {
	var config configuration.Configuration
	s := start(t, func(c *valetkey.Config) { config = c.Configuration })
	c := s.connect(s.token(t, "administrator", nil))
	store, err := database.Open(t.Context(), &config, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	now := time.Now()
	const id = "logout s/1 https://app.example/client"
	if err := store.Enqueue(t.Context(), storage.Message{ID: id, Owner: "app.example", Data: []byte(`{"c":"none"}`), Created: now, Due: now.Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	if err := store.Fail(t.Context(), id, now, "the client responded with status 500"); err != nil {
		t.Fatal(err)
	}
	list := func(failed string) []string {
		t.Helper()
		page, err := c.Messages(t.Context(), "clients", api.List{Filter: url.Values{"failed": {failed}}})
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, m := range page.Messages {
			if ids = append(ids, m.ID); failed == "true" && (m.FailedAt == nil || m.Cause == "" || m.DueAt != nil) {
				t.Errorf("message %+v", m)
			}
		}
		return ids
	}
	if got := list("true"); !slices.Equal(got, []string{id}) || len(list("false")) != 0 {
		t.Errorf("failed: %q", got)
	}
	if err := c.RetryMessage(t.Context(), "clients", id, api.Change{DryRun: true}); err != nil || len(list("true")) != 1 {
		t.Errorf("a dry run changes something: %v", err)
	}
	if err := c.RetryMessage(t.Context(), "clients", id, api.Change{}); err != nil || len(list("true")) != 0 {
		t.Errorf("try again: %v", err)
	}
	if err := store.Fail(t.Context(), id, now, "again"); err != nil { // if the server has not delivered it yet
		t.Fatal(err)
	}
	if left := list("true"); len(left) > 0 {
		if err := c.DropMessage(t.Context(), "clients", id, api.Change{}); err != nil {
			t.Error(err)
		}
	}
	wantStatus(t, "try again what does not exist", c.RetryMessage(t.Context(), "clients", id, api.Change{}), http.StatusNotFound)
}
