package valetkey

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/valetkey/valetkey/audit"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/outgoing"
	"github.com/valetkey/valetkey/storage"
)

const (
	// sealEvery is how often this node adds new audit records to the chain. Until then, someone who
	// can write to the database can remove them without a trace.
	sealEvery = time.Second
	// exportStep is how many records are exported at once.
	exportStep = 200
	// exportLease is how long a node may take for that.
	exportLease = time.Minute
	// maxWaitingWebhooks is how many records wait for one webhook. The rest waits in the log.
	maxWaitingWebhooks = 1000
	// webhookTimeout limits one delivery, webhookAttempts how often it is tried: for about three days.
	webhookTimeout  = 10 * time.Second
	webhookAttempts = 24
)

// auditing is what a server does with audit records after they were written.
type auditing struct {
	syslog    *audit.Syslog
	webhooks  map[string]*audit.Webhook
	client    *outgoing.Client
	lastPoint time.Time // of the last checkpoint
	lastSeal  int64     // its sequence number
}

func (s *Server) newAuditing() (err error) {
	c := &s.config.Audit
	if c.Syslog != nil {
		if s.auditing.syslog, err = c.Syslog.Sender(); err != nil {
			return err
		}
	}
	s.auditing.webhooks = map[string]*audit.Webhook{}
	for i := range c.Webhooks {
		w, err := c.Webhooks[i].Engine()
		if err != nil {
			return err
		}
		s.auditing.webhooks[w.Name] = w
	}
	if len(c.Webhooks) > 0 {
		o, err := s.config.Outgoing.Engine()
		if err != nil {
			return err
		}
		s.auditing.client = outgoing.New(outgoing.Policy{Networks: o.Networks, CertificateAuthorities: o.CertificateAuthorities}, s.events)
	}
	return nil
}

// keepAudit seals, checkpoints, exports and removes audit records until ctx is done.
func (s *Server) keepAudit(ctx context.Context) {
	if s.config.Audit.Record == configuration.AuditOff {
		return
	}
	often := time.NewTicker(sealEvery)
	defer often.Stop()
	hour := time.NewTicker(time.Hour)
	defer hour.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-often.C:
			s.runTask(ctx, "store events in the audit log", func(ctx context.Context) error { return s.auditEvents.store(ctx, s.store) })
			s.runTask(ctx, "seal audit records", func(ctx context.Context) error {
				_, err := s.store.SealAudit(ctx)
				return err
			})
			s.runTask(ctx, "write a checkpoint of the audit log", func(ctx context.Context) error { return s.writeCheckpoint(ctx, time.Now()) })
		case <-hour.C:
			s.runTask(ctx, "remove old audit records", func(ctx context.Context) error {
				_, err := s.store.RemoveAudit(ctx, time.Now().Add(-s.config.Audit.Kept()))
				return err
			})
		}
	}
}

// writeCheckpoint appends a checkpoint to the file and sends it to syslog, if one is due and the
// chain has grown.
func (s *Server) writeCheckpoint(ctx context.Context, now time.Time) error {
	a := &s.auditing
	if s.config.Audit.CheckpointFile == "" && a.syslog == nil || now.Sub(a.lastPoint) < s.config.Audit.CheckpointEvery() {
		return nil
	}
	c, err := s.store.AuditCheckpoint(ctx, s.config.Issuer, now)
	if err != nil {
		return err
	}
	if c.Sequence == 0 || c.Sequence == a.lastSeal {
		return nil
	}
	if path := s.config.Audit.CheckpointFile; path != "" {
		file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = file.WriteString(c.Text + "\n")
		if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
			return err
		}
	}
	a.lastPoint, a.lastSeal = now, c.Sequence
	select {
	case s.checkpoints <- c:
	default: // syslog is not available; there will be another one
	}
	return nil
}

// exportAudit sends audit records to syslog and to webhooks until ctx is done. Each destination has a
// goroutine, so that none waits for another.
func (s *Server) exportAudit(ctx context.Context) {
	if s.config.Audit.Record == configuration.AuditOff {
		return
	}
	repeat := func(what string, do func(context.Context) error) {
		s.working.Go(func() {
			often := time.NewTicker(sealEvery)
			defer often.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-often.C:
					s.runTask(ctx, what, do)
				}
			}
		})
	}
	if s.auditing.syslog != nil {
		repeat("send audit records to syslog", s.exportSyslog)
	}
	for _, w := range s.auditing.webhooks {
		repeat("prepare audit records for a webhook", func(ctx context.Context) error { return s.enqueueWebhook(ctx, w) })
	}
	if len(s.auditing.webhooks) > 0 {
		repeat("deliver audit records to webhooks", s.deliverWebhooks)
	}
}

// export calls send with the next records of the chain for a destination. One node does that at a
// time. A destination may get a record twice, after a failure.
func (s *Server) export(ctx context.Context, name string, send func([]audit.Record) error) error {
	now := time.Now()
	sequence, ok, err := s.store.ClaimExport(ctx, name, now, now.Add(exportLease))
	if err != nil || !ok {
		return err
	}
	for err == nil {
		var records []audit.Record
		if records, err = s.store.AuditSealed(ctx, sequence, exportStep); err != nil || len(records) == 0 {
			break
		}
		if err = send(records); err == nil {
			sequence = records[len(records)-1].Sequence
		}
		if time.Since(now) > exportLease/2 {
			break
		}
	}
	return errors.Join(err, s.store.ReleaseExport(context.WithoutCancel(ctx), name, sequence))
}

func (s *Server) exportSyslog(ctx context.Context) error {
	select {
	case c := <-s.checkpoints:
		if err := s.auditing.syslog.Send(ctx, c.SyslogMessage()); err != nil {
			return err
		}
	default:
	}
	pending, err := s.auditPending(ctx, "syslog")
	if err != nil || !pending {
		return err
	}
	return s.export(ctx, "syslog", func(records []audit.Record) error {
		var messages [][]byte
		for i := range records {
			if events := s.config.Audit.Syslog.Events; len(events) == 0 || audit.Matches(events, records[i].Event) {
				messages = append(messages, records[i].SyslogMessage())
			}
		}
		if len(messages) == 0 {
			return nil
		}
		return s.auditing.syslog.Send(ctx, messages...)
	})
}

// auditPending reports whether there are records that a destination has not got, without writing.
func (s *Server) auditPending(ctx context.Context, name string) (bool, error) {
	chain, err := s.store.AuditChain(ctx)
	if err != nil {
		return false, err
	}
	sequence, known, err := s.store.ExportedAudit(ctx, name)
	return !known || sequence < chain.Sequence, err
}

// errFull means that a webhook gets no more records until it has accepted some.
var errFull = errors.New("many records are waiting")

// enqueueWebhook puts the next records for a webhook into the outbox, so that each is delivered and
// tried again on its own.
func (s *Server) enqueueWebhook(ctx context.Context, w *audit.Webhook) error {
	pending, err := s.auditPending(ctx, "webhook "+w.Name)
	if err != nil || !pending {
		return err
	}
	outbox := s.store.AuditOutbox()
	err = s.export(ctx, "webhook "+w.Name, func(records []audit.Record) error {
		waiting, err := outbox.Waiting(ctx, w.Name)
		if err != nil {
			return err
		}
		if waiting >= maxWaitingWebhooks {
			return errFull
		}
		now := time.Now()
		var messages []storage.Message
		for i := range records {
			if !w.Wants(records[i].Event) {
				continue
			}
			m, err := webhookMessage(w, &records[i], now)
			if err != nil { // the records after it must not wait for it
				s.log.ErrorContext(ctx, "an audit record is not sent to a webhook", "webhook", w.Name, "error", err)
				continue
			}
			messages = append(messages, m)
		}
		if len(messages) == 0 {
			return nil
		}
		return outbox.Enqueue(ctx, messages...)
	})
	if errors.Is(err, errFull) {
		return nil
	}
	return err
}

// waitingRecord is a record in the outbox. It contains the record, which may be removed meanwhile.
type waitingRecord struct {
	Sequence int64  `json:"sequence"`
	Text     string `json:"text"`
}

func webhookMessage(w *audit.Webhook, r *audit.Record, now time.Time) (storage.Message, error) {
	data, err := json.Marshal(waitingRecord{r.Sequence, r.Text})
	if err == nil && len(data) > storage.MaxData {
		err = errors.New("it is too long")
	}
	if err != nil {
		return storage.Message{}, fmt.Errorf("encode audit record %d: %w", r.Sequence, err)
	}
	return storage.Message{ID: w.Name + " " + r.ID, Owner: w.Name, Data: data, Created: now, Due: now}, nil
}

// deliverWebhooks sends what is due in the outbox. Webhooks take turns, so that one that does not
// respond delays no other by more than a few attempts.
func (s *Server) deliverWebhooks(ctx context.Context) error {
	outbox := s.store.AuditOutbox()
	for {
		now := time.Now()
		messages, err := outbox.Claim(ctx, now, now.Add(2*webhookTimeout), 32, 4)
		if err != nil || len(messages) == 0 {
			return err
		}
		done := make(chan error, len(messages))
		for _, m := range messages {
			go func() { done <- s.deliverWebhook(ctx, outbox, m) }()
		}
		for range messages {
			err = errors.Join(err, <-done)
		}
		if err != nil {
			return err
		}
	}
}

func (s *Server) deliverWebhook(ctx context.Context, outbox storage.Outbox, m storage.Message) error {
	w := s.auditing.webhooks[m.Owner]
	if w == nil { // the configuration does not name it anymore
		return outbox.Remove(ctx, m.ID)
	}
	var waiting waitingRecord
	if err := json.Unmarshal(m.Data, &waiting); err != nil {
		return errors.Join(fmt.Errorf("a waiting audit record is malformed: %w", err), outbox.Remove(ctx, m.ID))
	}
	r, err := audit.Decode(waiting.Text)
	if err != nil {
		return errors.Join(err, outbox.Remove(ctx, m.ID))
	}
	r.Sequence = waiting.Sequence
	now := time.Now()
	body, header, err := w.Message(&r, now)
	if err != nil {
		return err
	}
	timed, cancel := context.WithTimeout(ctx, webhookTimeout)
	defer cancel()
	status, _, _, err := s.auditing.client.PostJSON(timed, w.URL, header, body, 64<<10)
	switch {
	case err == nil && status >= 200 && status < 300:
		return outbox.Remove(ctx, m.ID)
	case err == nil && status == http.StatusGone: // Standard Webhooks: the receiver wants no more
		err = errors.New("the webhook responded 410 Gone")
	case err == nil:
		err = fmt.Errorf("the webhook responded %d", status)
	}
	if m.Attempts >= webhookAttempts || status == http.StatusGone {
		s.log.ErrorContext(ctx, "an audit record was not delivered; it is kept among the failed messages for a week", "webhook", w.Name, "id", r.ID, "attempts", m.Attempts, "error", err)
		return outbox.Fail(ctx, m.ID, now, err.Error())
	}
	s.log.WarnContext(ctx, "an audit record could not be delivered; the server will try again", "webhook", w.Name, "id", r.ID, "attempts", m.Attempts, "error", err)
	return outbox.Postpone(ctx, m.ID, now.Add(webhookDelay(m.Attempts)))
}

// webhookDelay returns how long to wait after an attempt: 5 s, 10 s, 20 s and so on, up to 4 hours.
func webhookDelay(attempts int) time.Duration {
	return min(5*time.Second<<min(max(attempts-1, 0), 12), 4*time.Hour)
}

// ReplayAudit puts the records that a filter selects into the outbox of a webhook again, and returns
// how many. A server on the database delivers them. The configuration must have the webhook.
func ReplayAudit(ctx context.Context, store auditReplayer, c *configuration.Audit, webhook string, filter audit.Filter) (n int, err error) {
	if filter.Until.IsZero() {
		filter.Until = time.Now() // without the records that this leaves
	}
	for {
		sent, last, err := replaySome(ctx, store, c, webhook, filter, false)
		n += sent
		if err != nil || last == "" {
			return n, err
		}
		filter.After = last
	}
}

type auditReplayer interface {
	audit.Log
	ReplayAudit(ctx context.Context, replayed audit.Record, messages ...storage.Message) error
}

// replaySome is ReplayAudit for at most audit.MaxLimit records. last is the ID of the last one, or ""
// if there are no more.
func replaySome(ctx context.Context, store auditReplayer, c *configuration.Audit, webhook string, filter audit.Filter, dryRun bool) (sent int, last string, err error) {
	i := slices.IndexFunc(c.Webhooks, func(w configuration.AuditWebhook) bool { return w.Name == webhook })
	if i < 0 {
		return 0, "", fmt.Errorf("audit.webhooks has no webhook with the name %q", webhook)
	}
	w := &audit.Webhook{Name: webhook, Events: c.Webhooks[i].Events}
	filter.Ascending, filter.Limit = true, audit.MaxLimit
	records, err := store.AuditRecords(ctx, filter)
	if err != nil {
		return 0, "", err
	}
	var messages []storage.Message
	var first, end int64
	for i := range records {
		if records[i].Sequence == 0 || !w.Wants(records[i].Event) {
			continue
		}
		m, err := webhookMessage(w, &records[i], time.Now())
		if err != nil {
			return 0, "", err
		}
		messages, end = append(messages, m), records[i].Sequence
		first = cmp.Or(first, end)
	}
	if len(messages) > 0 && !dryRun {
		replayed := audit.Record{Event: "audit.replayed", Object: audit.Object{Kind: audit.ObjectLog, Name: webhook}, Details: map[string]string{
			"webhook": webhook, "records": strconv.Itoa(len(messages)), "first": strconv.FormatInt(first, 10), "last": strconv.FormatInt(end, 10),
		}}
		if err := store.ReplayAudit(ctx, replayed, messages...); err != nil {
			return 0, "", err
		}
	}
	if len(records) == audit.MaxLimit {
		last = records[len(records)-1].ID
	}
	return len(messages), last, nil
}
