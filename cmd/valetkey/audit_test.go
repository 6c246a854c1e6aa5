package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey"
	"github.com/valetkey/valetkey/audit"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/manage/api"
)

// An operator finds who changed what, and what someone else changed in the database.
func TestAuditCommands(t *testing.T) {
	dir := t.TempDir()
	config, checkpoints := filepath.Join(dir, "valetkey.yaml"), filepath.Join(dir, "checkpoints")
	text := "issuer: http://127.0.0.1:18999\ndatabase: sqlite:" + filepath.Join(dir, "v.db") + "\nusers:\n  - username: ada\n    password: engine no. 1 of 1837\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	do := func(want int, args ...string) string {
		t.Helper()
		var out, log bytes.Buffer
		if got := run(t.Context(), append(args, "--config", config), &out, &log); got != want {
			t.Fatalf("valetkey %v: exit code %d, want %d\n%s%s", args, got, want, &out, &log)
		}
		return out.String()
	}
	do(0, "apply", config)
	do(0, "users", "disable", "ada")
	list := do(0, "audit", "list", "--event", "user.*")
	if strings.Count(list, "operator ") != 2 || !strings.Contains(list, "user.disabled") || !strings.Contains(list, `username: – → "ada"`) || strings.Contains(list, "argon2") {
		t.Errorf("audit list: %s", list)
	}
	if err := os.WriteFile(checkpoints, []byte(do(0, "audit", "checkpoint")), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := do(0, "audit", "verify", "--checkpoint", checkpoints); !strings.Contains(out, "All 1 checkpoints agree") {
		t.Errorf("audit verify: %s", out)
	}
	for _, format := range []string{"jsonl", "ocsf", "syslog"} {
		if out := do(0, "audit", "export", "--format", format); strings.Count(out, "\n") != 3 {
			t.Errorf("audit export --format %s: %s", format, out)
		}
	}
	db, err := sql.Open("sqlite", filepath.Join(dir, "v.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`DROP TRIGGER audit_records_append_only; UPDATE audit_records SET record = replace(record, 'ada', 'eve') WHERE event = 'user.disabled'`); err != nil {
		t.Fatal(err)
	}
	if out := do(3, "audit", "verify"); !strings.Contains(out, "✗ record 3: it was changed") {
		t.Errorf("audit verify after a change: %s", out)
	}
	do(2, "audit", "list", "--since", "yesterday")
}

// The same commands on a running server, from elsewhere.
func TestAuditCommandsOverTheAPI(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"VALETKEY_SERVER", "VALETKEY_API", "VALETKEY_CLIENT_ID", "VALETKEY_DATABASE", "VALETKEY_MASTER_KEY"} {
		t.Setenv(name, "")
	}
	t.Setenv("VALETKEY_CLIENT_SECRET", strings.Repeat("s", 32))
	var server http.Handler
	listener := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { server.ServeHTTP(w, r) }))
	defer listener.Close()
	config, checkpoints := filepath.Join(dir, "valetkey.yaml"), filepath.Join(dir, "checkpoints")
	text := "issuer: " + listener.URL + "\ndatabase: sqlite:" + filepath.Join(dir, "v.db") + `
users: [{username: ada, password: engine no. 1 of 1837}]
audit: {webhooks: [{name: siem, url: "https://127.0.0.1:1/", secret: whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=}]}
clients:
`
	for _, role := range []string{"auditor", "operator", "support"} {
		text += "- {client_id: " + role + ", role: " + role + ", client_secret: " + strings.Repeat("s", 32) + ", grant_types: [client_credentials], scope: \"manage:all\", resources: [" + listener.URL + "/manage/v1]}\n"
	}
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	loaded, err := configuration.Read(config)
	if err != nil {
		t.Fatal(err)
	}
	running, err := valetkey.New(valetkey.Config{Configuration: loaded, File: config, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer running.Close()
	server = running
	do := func(want int, args ...string) (stdout, stderr string) {
		t.Helper()
		var out, log bytes.Buffer
		if got := run(t.Context(), args, &out, &log); got != want {
			t.Fatalf("valetkey %v: exit code %d, want %d\n%s%s", args, got, want, &out, &log)
		}
		return out.String(), log.String()
	}
	as := func(account string, args ...string) []string {
		return append(args, "--server", listener.URL, "--client-id", account)
	}
	do(0, "audit", "checkpoint", "--config", config) // all records are in the chain then
	for _, format := range []string{"jsonl", "ocsf", "syslog"} {
		var stored, fetched string
		for deadline := time.Now().Add(20 * time.Second); ; { // a new server creates keys meanwhile
			stored, _ = do(0, "audit", "export", "--format", format, "--config", config)
			fetched, _ = do(0, as("auditor", "audit", "export", "--format", format)...)
			if fetched == stored || time.Now().After(deadline) {
				break
			}
		}
		if fetched != stored || strings.Count(stored, "\n") < 4 {
			t.Errorf("the format %s differs:\n%s\n%s", format, stored, fetched)
		}
	}
	if out, _ := do(0, as("auditor", "audit", "export", "--event", "client.*")...); strings.Count(out, "\n") != 3 || strings.Contains(out, "user.created") {
		t.Errorf("selected records: %s", out)
	}
	checkpoint, log := do(0, as("auditor", "audit", "checkpoint")...)
	if !strings.Contains(log, "has the thumbprint") {
		t.Errorf("audit checkpoint: %s", log)
	}
	if err := os.WriteFile(checkpoints, []byte(checkpoint), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, _ := do(0, as("auditor", "audit", "verify", "--checkpoint", checkpoints)...); !strings.Contains(out, "All 1 checkpoints agree") {
		t.Errorf("audit verify: %s", out)
	}
	if _, log := do(1, as("auditor", "audit", "verify", "--checkpoint", checkpoints, "--key", "other")...); !strings.Contains(log, "not trusted") {
		t.Errorf("audit verify with another key: %s", log)
	}
	if _, log := do(1, as("support", "audit", "verify")...); !strings.Contains(log, "audit:read") {
		t.Errorf("audit verify by support: %s", log)
	}
	if _, log := do(1, as("auditor", "audit", "replay", "siem", "--since", "1h")...); !strings.Contains(log, "outbox:write") {
		t.Errorf("audit replay by an auditor: %s", log)
	}
	if out, _ := do(0, as("operator", "audit", "replay", "siem", "--since", "1h", "--event", "user.*", "--json")...); !strings.Contains(out, `"records": 1`) {
		t.Errorf("audit replay: %s", out)
	}
	do(2, as("operator", "audit", "replay", "siem", "--since", "yesterday")...)
	if _, log := do(1, as("support", "revoke", "--user", "ada")...); !strings.Contains(log, "grants:write") {
		t.Errorf("revoke by support: %s", log)
	}
	if out, _ := do(0, as("operator", "revoke", "--user", "ada")...); !strings.Contains(out, "signed out on all devices") {
		t.Errorf("revoke: %s", out)
	}
	if out, _ := do(0, as("auditor", "audit", "list", "--event", "session.all_ended")...); !strings.Contains(out, "client operator") {
		t.Errorf("the log does not say who has revoked: %s", out)
	}

	db, err := sql.Open("sqlite", filepath.Join(dir, "v.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`DROP TRIGGER audit_records_append_only; UPDATE audit_records SET record = replace(record, 'ada', 'eve') WHERE event = 'user.created'`); err != nil {
		t.Fatal(err)
	}
	out, log := do(3, as("auditor", "audit", "verify", "--json", "--checkpoint", checkpoints)...)
	var report audit.Report
	if err := json.Unmarshal([]byte(out), &report); err != nil || len(report.Problems) == 0 || !strings.Contains(report.Problems[0].Text, "it was changed") || !strings.Contains(log, "not as it was written") {
		t.Errorf("audit verify after a change: %s%s", out, log)
	}
	listener.Close()
	do(1, as("auditor", "audit", "verify")...)
}

// lyingServer answers as the management API does, and chooses what.
type lyingServer struct {
	chain   api.AuditChain
	records []api.StoredAuditRecord
	// endless returns the first page again and again.
	endless bool
	// expires is how many requests an access token is valid for; 0 for all.
	expires, requests, connected int
}

func newLyingServer(t *testing.T, n int) *lyingServer {
	t.Helper()
	s := &lyingServer{}
	var hash []byte
	for i := range n {
		r := audit.Record{Event: "user.updated", Subject: strconv.Itoa(i)}
		if err := r.Complete(t.Context()); err != nil {
			t.Fatal(err)
		}
		hash = audit.NextHash(hash, int64(i+1), false, r.Text)
		s.records = append(s.records, api.StoredAuditRecord{Sequence: int64(i + 1), Hash: hex.EncodeToString(hash), Text: r.Text,
			Index: &api.AuditIndex{ID: r.ID, Event: r.Event, Subject: r.Subject}})
	}
	s.chain = api.AuditChain{Sequence: int64(n), Hash: hex.EncodeToString(hash), Key: "mine"}
	return s
}

// RoundTrip implements http.RoundTripper.
func (s *lyingServer) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	s.requests++
	switch {
	case s.expires > 0 && s.requests > s.expires:
		w.WriteHeader(http.StatusUnauthorized)
	case r.URL.Path == "/manage/v1/audit/chain":
		_ = json.NewEncoder(w).Encode(s.chain)
	default:
		after, _ := strconv.Atoi(r.URL.Query().Get("after"))
		if s.endless {
			after = 0
		}
		_ = json.NewEncoder(w).Encode(api.StoredAuditPage{Records: s.records[min(after, len(s.records)):min(after+2, len(s.records))]})
	}
	return w.Result(), nil
}

func (s *lyingServer) connect(context.Context) (*api.Connection, error) {
	s.requests, s.connected = 0, s.connected+1
	return &api.Connection{Issuer: "http://server.example", HTTP: &http.Client{Transport: s}}, nil
}

// Nothing that the server says about its records is believed.
func TestAServerThatLiesAboutItsLogIsFoundOut(t *testing.T) {
	for _, c := range []struct {
		name string
		lie  func(*lyingServer)
		want string // "" for nothing wrong
	}{
		{"it tells the truth", func(*lyingServer) {}, ""},
		{"its tokens expire soon", func(s *lyingServer) { s.expires = 2 }, ""},
		{"another text", func(s *lyingServer) { s.records[3].Text = strings.Replace(s.records[3].Text, `"3"`, `"9"`, 1) }, "record 4: it was changed"},
		{"another text with a hash of its own", func(s *lyingServer) {
			r := &s.records[3]
			r.Text = strings.Replace(r.Text, `"3"`, `"9"`, 1)
			r.Index.Subject = "9"
			before, _ := hex.DecodeString(s.records[2].Hash)
			r.Hash = hex.EncodeToString(audit.NextHash(before, 4, false, r.Text))
		}, "record 5: it was changed"},
		{"a record is missing", func(s *lyingServer) { s.records = append(s.records[:4:4], s.records[5:]...) }, "record 5: it is missing"},
		{"the end is missing", func(s *lyingServer) { s.records = s.records[:4] }, "record 5: it is missing, and so are all after it"},
		{"the beginning was removed", func(s *lyingServer) {
			s.chain.Removed, s.chain.RemovedHash, s.records = 2, s.records[1].Hash, s.records[2:]
		}, "the statement about the removed beginning of the chain is invalid"},
		{"what a search finds", func(s *lyingServer) { s.records[3].Index.Subject = "x" }, "record 4: what it is found by"},
		{"no index", func(s *lyingServer) { s.records[3].Index = nil }, "record 4: what it is found by"},
		{"it never ends", func(s *lyingServer) { s.endless = true }, "error: the server returned record 1 after record 2"},
		{"nonsense", func(s *lyingServer) { s.records[3].Text = "{" }, "error: record 4:"},
		{"no hash", func(s *lyingServer) { s.records[3].Hash = "x" }, "error: record 4:"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newLyingServer(t, 7)
			c.lie(s)
			connection, _ := s.connect(t.Context())
			chain := &fetchedChain{server: &longCall{connection, s.connect}, shown: &progress{out: io.Discard}}
			report, err := audit.Verify(t.Context(), chain, nil, "mine")
			found := ""
			for _, p := range report.Problems {
				found += p.String() + "\n"
			}
			if err != nil {
				found = "error: " + err.Error()
			}
			if (found == "") != (c.want == "") || !strings.Contains(found, c.want) {
				t.Errorf("found %q, want %q", found, c.want)
			}
			if s.expires > 0 && s.connected < 3 {
				t.Errorf("it connected %d times", s.connected)
			}
		})
	}
}

func TestProgressIsShownOnATerminalOnly(t *testing.T) {
	var log bytes.Buffer
	p := (&output{io.Discard, &log}).progress()
	now := time.Now()
	p.show(now, "1 of 9")
	p.end()
	if log.Len() > 0 {
		t.Errorf("a file gets %q", log.String())
	}
	p = &progress{out: &log}
	p.show(now, "1 of 9")
	p.show(now.Add(time.Millisecond), "2 of 9")
	p.show(now.Add(time.Second), "3 of 9")
	p.end()
	if got, want := log.String(), "\r\x1b[K1 of 9\r\x1b[K3 of 9\r\x1b[K"; got != want {
		t.Errorf("a terminal gets %q, want %q", got, want)
	}
}
