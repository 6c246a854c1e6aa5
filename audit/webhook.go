package audit

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Webhook is a receiver of records, as Standard Webhooks defines it.
type Webhook struct {
	// Name identifies the webhook in the outbox. It must not change.
	Name string
	URL  string
	// Key signs the messages.
	Key []byte
	// Events are names of events, or beginnings such as "user.*"; nil means all.
	Events []string
}

// ParseWebhookSecret returns the key of a secret: "whsec_" followed by 24 to 64 bytes in base64.
func ParseWebhookSecret(secret string) ([]byte, error) {
	text, ok := strings.CutPrefix(secret, "whsec_")
	key, err := base64.StdEncoding.DecodeString(text)
	if !ok || err != nil || len(key) < 24 || len(key) > 64 {
		return nil, errors.New(`must be "whsec_" followed by 24 to 64 random bytes in base64: create one with echo "whsec_$(openssl rand -base64 32)"`)
	}
	return key, nil
}

// Wants reports whether the webhook gets an event.
func (w *Webhook) Wants(event string) bool { return len(w.Events) == 0 || Matches(w.Events, event) }

// Matches reports whether one of some names, or beginnings such as "user.*", is that of an event.
func Matches(names []string, event string) bool {
	for _, name := range names {
		if prefix, ok := strings.CutSuffix(name, "*"); name == event || ok && strings.HasPrefix(event, prefix) {
			return true
		}
	}
	return false
}

// Message returns the body of the message about a record and its headers at a time. The ID is the same
// at every attempt.
func (w *Webhook) Message(r *Record, now time.Time) (body []byte, header http.Header, err error) {
	body, err = json.Marshal(struct {
		Type      string          `json:"type"`
		Timestamp string          `json:"timestamp"`
		Sequence  int64           `json:"sequence"`
		Data      json.RawMessage `json:"data"`
	}{r.Event, r.Time.Format(timeFormat), r.Sequence, json.RawMessage(r.Text)})
	if err != nil {
		return nil, nil, fmt.Errorf("encode a message: %w", err)
	}
	id, timestamp := "audit_"+r.ID, strconv.FormatInt(now.Unix(), 10)
	mac := hmac.New(sha256.New, w.Key)
	fmt.Fprintf(mac, "%s.%s.%s", id, timestamp, body)
	header = http.Header{}
	header.Set("Content-Type", "application/json")
	header.Set("Webhook-Id", id)
	header.Set("Webhook-Timestamp", timestamp)
	header.Set("Webhook-Signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	return body, header, nil
}

// Format keeps the key out of logs and messages.
func (w Webhook) Format(s fmt.State, _ rune) { fmt.Fprintf(s, "[webhook %q]", w.Name) }
