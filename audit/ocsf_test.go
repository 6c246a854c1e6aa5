package audit

import (
	"encoding/json"
	"slices"
	"testing"
	"time"
)

// Facts of the published schema (schema.ocsf.io): the activities of each class, and the attributes
// that its events must have.
var ocsfSchema = map[int]struct {
	category   int
	activities []int
	required   []string
}{
	3001: {3, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 99}, []string{"user"}},
	3002: {3, []int{0, 1, 2, 3, 4, 5, 6, 7, 99}, []string{"user", "service"}}, // at least one of service and dst_endpoint
	6003: {6, []int{0, 1, 2, 3, 4, 99}, []string{"actor", "api", "src_endpoint"}},
}

// Every event is one of the three classes, with the attributes that the schema requires.
func TestOCSFEventsHaveWhatTheSchemaRequires(t *testing.T) {
	base := []string{"activity_id", "category_uid", "class_uid", "metadata", "severity_id", "time", "type_uid"}
	for _, e := range Events {
		for _, actor := range []Actor{{}, {Kind: KindUser, ID: "u1", Name: "ada", Address: "192.0.2.1"}, {Kind: KindClient, ID: "c1"}, {Kind: KindOperator, ID: "root", Address: "host"}} {
			r := Record{Event: e.Name, Actor: actor}
			if err := r.Complete(t.Context()); err != nil {
				t.Fatal(err)
			}
			encoded, err := r.OCSF("https://login.example.com")
			if err != nil {
				t.Fatal(err)
			}
			var event struct {
				Class    int            `json:"class_uid"`
				Category int            `json:"category_uid"`
				Activity int            `json:"activity_id"`
				Type     int            `json:"type_uid"`
				Time     int64          `json:"time"`
				Status   int            `json:"status_id"`
				User     map[string]any `json:"user"`
				Actor    map[string]any `json:"actor"`
				Source   map[string]any `json:"src_endpoint"`
			}
			var members map[string]json.RawMessage
			if err := json.Unmarshal(encoded, &event); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(encoded, &members); err != nil {
				t.Fatal(err)
			}
			schema, ok := ocsfSchema[event.Class]
			if !ok || event.Category != schema.category || !slices.Contains(schema.activities, event.Activity) || event.Type != event.Class*100+event.Activity {
				t.Errorf("%s: class %d, category %d, activity %d, type %d", e.Name, event.Class, event.Category, event.Activity, event.Type)
			}
			for _, name := range append(base, schema.required...) {
				if members[name] == nil {
					t.Errorf("%s of class %d has no %s", e.Name, event.Class, name)
				}
			}
			if event.Class != 6003 && event.User["uid"] == nil && event.User["name"] == nil {
				t.Errorf("%s: a user has an account, a name or a uid", e.Name)
			}
			if event.Actor["user"] == nil && event.Actor["app_name"] == nil && event.Actor["app_uid"] == nil {
				t.Errorf("%s: the actor is nobody", e.Name)
			}
			if want := 1 + map[bool]int{true: 1}[e.Failed]; event.Status != want || time.Since(time.UnixMilli(event.Time)) > time.Hour {
				t.Errorf("%s: status %d, time %d", e.Name, event.Status, event.Time)
			}
		}
	}
}

// Texts of strangers stay in their place.
func TestRecordsKeepTextsOfStrangersApart(t *testing.T) {
	evil := "x\n\x00\xff\"]<13>1 - \u202e"
	r := Record{Event: "sign_in.failed", Actor: Actor{Kind: KindUnknown, Name: evil}, Details: map[string]string{"username": evil}, Subject: evil}
	if err := r.Complete(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, line := range [][]byte{r.JSONLine(), r.SyslogMessage()} {
		if slices.ContainsFunc(line, func(b byte) bool { return b < 0x20 }) {
			t.Errorf("control characters in %q", line)
		}
	}
	back, err := Decode(r.Text)
	if err != nil || back.Subject != r.Subject || back.Details["username"] != back.Actor.Name {
		t.Errorf("decoded %+v, %v", back, err)
	}
}

// Secrets have the form of Standard Webhooks, and enough bytes.
func TestWebhookSecret(t *testing.T) {
	if _, err := ParseWebhookSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", "whsec_", "whsec_AAAA", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_!!"} {
		if _, err := ParseWebhookSecret(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}
