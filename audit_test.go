package valetkey

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/audit"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/storage/record"
)

// Records reach syslog over TLS and a webhook, with a signature that the receiver can verify; a dead
// webhook delays neither; and the checkpoint that was written to a file agrees with the chain.
func TestAuditRecordsAreExported(t *testing.T) {
	dir := t.TempDir()
	key := make([]byte, 32)
	got := make(chan string, 100)
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		mac := hmac.New(sha256.New, key)
		fmt.Fprintf(mac, "%s.%s.%s", r.Header.Get("webhook-id"), r.Header.Get("webhook-timestamp"), body)
		if want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)); r.Header.Get("webhook-signature") != want {
			t.Errorf("webhook-signature is %q, want %q", r.Header.Get("webhook-signature"), want)
		}
		var message struct {
			Type string
			Data struct {
				After map[string]any
			}
		}
		if err := json.Unmarshal(body, &message); err != nil {
			t.Errorf("%v in %s", err, body)
		}
		got <- message.Type
	}))
	defer hook.Close()
	dead := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }))
	defer dead.Close()
	certificate := httptest.NewTLSServer(nil) // for its certificate, which is for 127.0.0.1
	defer certificate.Close()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", certificate.TLS)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	lines := make(chan string, 100)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		in := bufio.NewReader(conn)
		for {
			var size int
			if _, err := fmt.Fscanf(in, "%d ", &size); err != nil {
				return
			}
			message := make([]byte, size)
			if _, err := io.ReadFull(in, message); err != nil {
				return
			}
			lines <- string(message)
		}
	}()
	ca := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, pemOf(certificate.Certificate().Raw), 0o600); err != nil {
		t.Fatal(err)
	}
	secret := "whsec_" + base64.StdEncoding.EncodeToString(key)
	s, err := New(Config{Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), Configuration: configuration.Configuration{
		Issuer: "http://127.0.0.1:1", Database: "sqlite:" + filepath.Join(dir, "valetkey.db"),
		Outgoing: configuration.Outgoing{Networks: []string{"127.0.0.0/8"}},
		Audit: configuration.Audit{
			CheckpointFile: filepath.Join(dir, "checkpoints"), CheckpointInterval: record.Duration(time.Second),
			Syslog:   &configuration.AuditSyslog{Address: "tls://" + listener.Addr().String(), CAFile: ca},
			Webhooks: []configuration.AuditWebhook{{Name: "dead", URL: dead.URL, Secret: secret}, {Name: "live", URL: hook.URL, Secret: secret, Events: []string{"user.*"}}},
		},
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx := audit.WithActor(t.Context(), audit.Actor{Kind: audit.KindOperator, ID: "test"})
	// Destinations begin at the end of the chain: wait until they have begun.
	for _, name := range []string{"syslog", "webhook live", "webhook dead"} {
		for {
			if _, known, err := s.store.ExportedAudit(ctx, name); err != nil {
				t.Fatal(err)
			} else if known {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	if err := s.store.CreateUser(ctx, &identity.User{ID: "u1", Username: "ada", PasswordHash: "$argon2id$secret"}); err != nil {
		t.Fatal(err)
	}
	wait := func(what string, from <-chan string, is func(string) bool) {
		t.Helper()
		for timeout := time.After(time.Minute); ; {
			select {
			case text := <-from:
				if is(text) {
					return
				}
			case <-timeout:
				t.Fatalf("no %s", what)
			}
		}
	}
	wait("message for the webhook", got, func(event string) bool { return event == "user.created" })
	wait("syslog message", lines, func(line string) bool {
		return strings.HasPrefix(line, "<109>1 ") && strings.Contains(line, " user.created [origin software=\"valetkey\"]") && strings.Contains(line, `"username":"ada"`)
	})
	var checkpoints []*audit.Checkpoint
	for len(checkpoints) == 0 || checkpoints[len(checkpoints)-1].Sequence == 0 {
		if file, err := os.Open(filepath.Join(dir, "checkpoints")); err == nil {
			if checkpoints, err = audit.ReadCheckpoints(file, s.store.AuditKey()); err != nil {
				t.Fatal(err)
			}
			file.Close()
		}
		time.Sleep(20 * time.Millisecond)
	}
	report, err := audit.Verify(ctx, s.store, checkpoints, s.store.AuditKey())
	if err != nil || len(report.Problems) > 0 || report.Checkpoints != len(checkpoints) {
		t.Errorf("report %+v, %v", report, err)
	}
	if n, err := ReplayAudit(ctx, s.store, &s.config.Audit, "live", audit.Filter{}); err != nil || n != 1 {
		t.Errorf("ReplayAudit = %d, %v", n, err)
	}
	wait("replayed message", got, func(event string) bool { return event == "user.created" })
}

func pemOf(certificate []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})
}
