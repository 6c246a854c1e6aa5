package configuration

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"time"

	"github.com/valetkey/valetkey/audit"
	"github.com/valetkey/valetkey/storage/record"
)

// Audit says what happens to the records of who changed what.
type Audit struct {
	// Record is whether records are written: AuditOn, the default, or AuditOff.
	Record string `json:"record,omitempty"`
	// Retention is how long records are kept. The default is 400 days.
	Retention record.Duration `json:"retention,omitzero"`
	// CheckpointFile is a file to which signed checkpoints are appended; "" for none.
	CheckpointFile string `json:"checkpoint_file,omitempty"`
	// CheckpointInterval is how often a checkpoint is written. The default is an hour.
	CheckpointInterval record.Duration `json:"checkpoint_interval,omitzero"`
	// Syslog is a receiver of all records; nil for none.
	Syslog *AuditSyslog `json:"syslog,omitempty"`
	// Webhooks are services that get records.
	Webhooks []AuditWebhook `json:"webhooks,omitempty"`
}

// AuditSyslog is a receiver of RFC 5424.
type AuditSyslog struct {
	// Address is tls://HOST:PORT, tcp://HOST:PORT or udp://HOST:PORT.
	Address string `json:"address"`
	// CAFile has the certificates of the authorities for tls:// in PEM; "" for those of the system.
	CAFile string `json:"ca_file,omitempty"`
	// Events are names of events, or beginnings such as "user.*"; nil means all.
	Events []string `json:"events,omitempty"`
}

// AuditWebhook is a receiver of Standard Webhooks.
type AuditWebhook struct {
	// Name identifies the webhook. Another name begins at the end of the log.
	Name string `json:"name"`
	URL  string `json:"url"`
	// Secret signs the messages; SecretFile is a file that contains it.
	Secret     string `json:"secret,omitempty"`
	SecretFile string `json:"secret_file,omitempty"`
	// Events are names of events, or beginnings such as "user.*"; nil means all.
	Events []string `json:"events,omitempty"`
}

// The values of Audit.Record.
const (
	AuditOn  = "on"
	AuditOff = "off"
)

const (
	defaultAuditRetention     = 400 * 24 * time.Hour
	defaultCheckpointInterval = time.Hour
	minCheckpointInterval     = time.Second
)

// Format keeps secrets out of logs and messages.
func (w AuditWebhook) Format(s fmt.State, _ rune) { fmt.Fprintf(s, "[audit webhook %q]", w.Name) }

// Kept returns how long records are kept.
func (a *Audit) Kept() time.Duration {
	if a.Retention > 0 {
		return time.Duration(a.Retention)
	}
	return defaultAuditRetention
}

// CheckpointEvery returns how often a checkpoint is written.
func (a *Audit) CheckpointEvery() time.Duration {
	if a.CheckpointInterval > 0 {
		return time.Duration(a.CheckpointInterval)
	}
	return defaultCheckpointInterval
}

func (a *Audit) validate(report reporter) {
	oneOf(report, "audit.record", a.Record, AuditOn, AuditOff)
	if d := time.Duration(a.Retention); d != 0 && d < 24*time.Hour {
		report("audit.retention", "must be at least 24h")
	}
	if d := time.Duration(a.CheckpointInterval); d != 0 && d < minCheckpointInterval {
		report("audit.checkpoint_interval", "must be at least 1s")
	}
	if a.Syslog != nil {
		if _, err := audit.NewSyslog(a.Syslog.Address, nil); err != nil {
			report("audit.syslog.address", "%v", err)
		}
		validateAuditEvents(report, "audit.syslog.events", a.Syslog.Events)
	}
	names := map[string]bool{}
	for i := range a.Webhooks {
		w, path := &a.Webhooks[i], fmt.Sprintf("audit.webhooks[%d]", i)
		if w.Name == "" || len(w.Name) > 64 || names[w.Name] {
			report(path+".name", "is missing, too long, or used twice")
		}
		names[w.Name] = true
		u, err := url.Parse(w.URL)
		if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.Fragment != "" {
			report(path+".url", "is not an http or https URL")
		}
		if (w.Secret == "") == (w.SecretFile == "") {
			report(path, "either secret or secret_file is required")
		} else if w.Secret != "" {
			if _, err := audit.ParseWebhookSecret(w.Secret); err != nil {
				report(path+".secret", "%v", err)
			}
		}
		validateAuditEvents(report, path+".events", w.Events)
	}
}

func validateAuditEvents(report reporter, path string, names []string) {
	for i, name := range names {
		known := false
		for _, e := range audit.Events {
			known = known || audit.Matches([]string{name}, e.Name)
		}
		if !known {
			report(fmt.Sprintf("%s[%d]", path, i), "%q is not the name of an event, nor the beginning of one with * at the end", name)
		}
	}
}

// Engine returns the webhook with its key.
func (w *AuditWebhook) Engine() (*audit.Webhook, error) {
	secret := w.Secret
	if w.SecretFile != "" {
		var err error
		if secret, err = readSecretFile(w.SecretFile); err != nil {
			return nil, fmt.Errorf("audit webhook %q: secret_file: %w", w.Name, err)
		}
	}
	key, err := audit.ParseWebhookSecret(secret)
	if err != nil {
		return nil, fmt.Errorf("audit webhook %q: the secret %w", w.Name, err)
	}
	return &audit.Webhook{Name: w.Name, URL: w.URL, Key: key, Events: w.Events}, nil
}

// Sender returns a sender to the receiver.
func (s *AuditSyslog) Sender() (*audit.Syslog, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.CAFile != "" {
		pem, err := os.ReadFile(s.CAFile)
		if err != nil {
			return nil, fmt.Errorf("audit.syslog.ca_file: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New("audit.syslog.ca_file contains no certificate")
		}
	}
	return audit.NewSyslog(s.Address, config)
}
