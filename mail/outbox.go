package mail

import (
	"cmp"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/ui/theme"
)

const (
	// maxWaiting is how many messages may wait for one recipient. More are refused.
	maxWaiting = 20
	// claimLasts is how long a node has for one delivery. It is longer than sendTimeout.
	claimLasts  = 2 * time.Minute
	sendTimeout = 45 * time.Second
	// A failed delivery is tried again after a delay that grows with each attempt.
	minDelay = 10 * time.Second
	maxDelay = time.Hour
	// maxDeliveries bounds the concurrent deliveries of a node.
	maxDeliveries = 4
	// noticeLifetime is how long the delivery of a message without an Expires of its own is tried.
	noticeLifetime = 3 * 24 * time.Hour
)

// ErrTooManyWaiting means that too many messages are waiting for the same recipient.
var ErrTooManyWaiting = errors.New("mail: too many messages are waiting for this recipient")

// PermanentError is an error of a delivery that another attempt would not change.
type PermanentError struct{ Cause error }

func (e *PermanentError) Error() string { return e.Cause.Error() }
func (e *PermanentError) Unwrap() error { return e.Cause }

// Config configures an Outbox.
type Config struct {
	// Store keeps the messages until they are delivered.
	Store storage.Outbox
	// Key encrypts the messages in the store: 32 bytes, the same on all nodes.
	Key []byte
	// Base is the URL that links begin with, without a final slash: the issuer.
	Base string
	// Service is the name of the service in the messages.
	Service string
	// From is the sender, such as "Example <login@example.com>".
	From string
	// Templates are from ReadTemplates; nil means the built-in ones.
	Templates *Templates
	// Theme has the colors of the messages; nil means the built-in theme.
	Theme *theme.Loaded
	// Deliver delivers a letter. It returns a *PermanentError if no other attempt is of use.
	Deliver func(ctx context.Context, letter *Letter) error
	// Logger receives the events; nil means slog.Default().
	Logger *slog.Logger
}

// Format keeps the key out of logs and messages.
func (c Config) Format(s fmt.State, _ rune) { fmt.Fprint(s, "[configuration of mail]") }

// LogValue keeps the key out of structured logs.
func (c Config) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(c)) }

// Outbox stores messages and delivers them. It is safe for concurrent use.
type Outbox struct {
	config Config
	events *event.Log
	sealer cipher.AEAD
	due    chan struct{}
}

// New returns an outbox.
func New(config Config) (*Outbox, error) {
	if config.Store == nil || config.Deliver == nil {
		return nil, errors.New("mail: Config.Store and Config.Deliver are required")
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	if config.Templates == nil {
		var err error
		if config.Templates, err = ReadTemplates(""); err != nil {
			return nil, err
		}
	}
	if config.Theme == nil {
		config.Theme = theme.Default()
	}
	config.Base = strings.TrimSuffix(config.Base, "/")
	config.Service = cmp.Or(oneLine(config.Service), "Valetkey")
	if len(config.Key) != 32 {
		return nil, errors.New("mail: Config.Key must have 32 bytes")
	}
	block, err := aes.NewCipher(config.Key)
	if err != nil {
		return nil, fmt.Errorf("mail: %w", err)
	}
	sealer, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("mail: %w", err)
	}
	return &Outbox{config: config, events: event.New(config.Logger), sealer: sealer, due: make(chan struct{}, 1)}, nil
}

// Format keeps the key out of logs and messages.
func (o Outbox) Format(s fmt.State, _ rune) { fmt.Fprint(s, "[outbox]") }

// LogValue keeps the key out of structured logs.
func (o Outbox) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(o)) }

// Send stores a message that is then delivered in the background. It returns ErrTooManyWaiting if
// the recipient has too many waiting messages.
func (o *Outbox) Send(ctx context.Context, now time.Time, m Message) error {
	owner := m.To
	if m.To == "" {
		owner = storage.NewID() // no limit applies
	} else if _, err := forSMTP(m.To); err != nil {
		return fmt.Errorf("send a message: %w", err)
	}
	owner = o.owner(owner)
	waiting, err := o.config.Store.Waiting(ctx, owner)
	if err != nil {
		return fmt.Errorf("send a message: %w", err)
	}
	if waiting >= maxWaiting {
		o.events.Record(ctx, event.MailFailed, slog.String("message", string(m.Kind)), slog.String("sub", m.Subject), slog.Any("cause", ErrTooManyWaiting))
		return ErrTooManyWaiting
	}
	if m.Expires.IsZero() {
		m.Expires, m.Notice = now.Add(noticeLifetime), true
	}
	plain, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode a message: %w", err)
	}
	id := storage.NewID()
	nonce := make([]byte, o.sealer.NonceSize())
	rand.Read(nonce)
	sealed := o.sealer.Seal(nonce, nonce, plain, []byte(id))
	if err := o.config.Store.Enqueue(ctx, storage.Message{ID: id, Owner: owner, Data: sealed, Created: now, Due: now}); err != nil {
		return fmt.Errorf("send a message: %w", err)
	}
	select {
	case o.due <- struct{}{}:
	default: // it is ready already
	}
	return nil
}

// owner returns a pseudonym for a recipient.
func (o *Outbox) owner(address string) string {
	mac := hmac.New(sha256.New, o.config.Key)
	mac.Write([]byte("recipient\x00" + strings.ToLower(address)))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:16])
}

// Due is ready when Deliver should be called. Call Deliver every few seconds as well, for messages
// that another process has stored, and for those that are due for another attempt.
func (o *Outbox) Due() <-chan struct{} { return o.due }

// Deliver delivers the messages that are due. Several nodes may call it at the same time; each
// message is delivered by one of them. Recipients take turns.
func (o *Outbox) Deliver(ctx context.Context) error {
	for ctx.Err() == nil {
		messages, err := o.claim(ctx)
		if err != nil {
			return fmt.Errorf("claim messages: %w", err)
		}
		if len(messages) == 0 {
			return nil
		}
		var sending sync.WaitGroup
		for _, m := range messages {
			sending.Go(func() { o.deliver(ctx, m) })
		}
		sending.Wait()
	}
	return nil
}

// claim claims messages. The end of ctx does not interrupt it: a message that was claimed by an
// interrupted call would wait until the claim ends.
func (o *Outbox) claim(ctx context.Context) ([]storage.Message, error) {
	ctx, cancel := storage.Uninterrupted(ctx)
	defer cancel()
	now := time.Now()
	return o.config.Store.Claim(ctx, now, now.Add(claimLasts), maxDeliveries, 1)
}

// deliver delivers one message, and then removes or postpones it.
func (o *Outbox) deliver(ctx context.Context, stored storage.Message) {
	defer func() {
		if failure := recover(); failure != nil {
			o.config.Logger.ErrorContext(ctx, "panic", "in", "deliver a message", "panic", failure, "stack", string(debug.Stack()))
		}
	}()
	m, err := o.open(stored)
	if err == nil && m.To == "" {
		err = o.config.Store.Remove(ctx, stored.ID)
		if err != nil {
			o.config.Logger.ErrorContext(ctx, "message not removed from the outbox", "error", err)
		}
		return
	}
	if err == nil && !time.Now().Before(m.until(stored.Created)) {
		err = &PermanentError{errors.New("the message has expired before it could be delivered")}
	}
	if err == nil {
		err = o.post(ctx, m, stored)
	}
	interrupted := ctx.Err() != nil
	ctx, cancel := storage.Uninterrupted(ctx)
	defer cancel()
	now := time.Now()
	permanent, isPermanent := errors.AsType[*PermanentError](err)
	about := []slog.Attr{slog.String("message", string(m.Kind)), slog.String("sub", m.Subject), slog.Int("attempts", stored.Attempts)}
	switch {
	case err == nil:
		o.events.Record(ctx, event.MailSent, about...)
		err = o.config.Store.Remove(ctx, stored.ID)
	case isPermanent:
		o.events.Record(ctx, event.MailFailed, append(about, slog.Any("cause", permanent.Cause))...)
		err = o.config.Store.Fail(ctx, stored.ID, now, permanent.Cause.Error())
	case interrupted: // another node, or this one after a restart, can deliver it at once
		err = o.config.Store.Postpone(ctx, stored.ID, now)
	default:
		o.events.Record(ctx, event.MailPostponed, append(about, slog.Any("cause", err))...)
		err = o.config.Store.Postpone(ctx, stored.ID, now.Add(delay(stored.Attempts)))
	}
	if err != nil {
		o.config.Logger.ErrorContext(ctx, "the state of a message was not stored", "error", err)
	}
}

// open decrypts a message.
func (o *Outbox) open(stored storage.Message) (m Message, err error) {
	n := o.sealer.NonceSize()
	if len(stored.Data) < n {
		return m, &PermanentError{errors.New("the stored message is malformed")}
	}
	plain, err := o.sealer.Open(nil, stored.Data[:n], stored.Data[n:], []byte(stored.ID))
	if err != nil {
		return m, &PermanentError{errors.New("the stored message cannot be decrypted: the master key was replaced")}
	}
	if err := json.Unmarshal(plain, &m); err != nil {
		return m, &PermanentError{fmt.Errorf("decode a message: %w", err)}
	}
	return m, nil
}

// post renders a message and delivers it.
func (o *Outbox) post(ctx context.Context, m Message, stored storage.Message) error {
	letter, err := o.config.Templates.letter(&m, o.config.Service, o.config.Base, o.config.Theme)
	if err != nil {
		return &PermanentError{err}
	}
	letter.ID, letter.From, letter.Date = stored.ID, o.config.From, stored.Created
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	return o.config.Deliver(ctx, letter)
}

func delay(attempts int) time.Duration {
	d := minDelay
	for ; attempts > 1 && d < maxDelay; attempts-- {
		d *= 3
	}
	return min(d, maxDelay)
}

// SendNow delivers a message at once, without storing it, and returns the error of the delivery.
func (o *Outbox) SendNow(ctx context.Context, now time.Time, m Message) error {
	if _, err := forSMTP(m.To); err != nil {
		return fmt.Errorf("%q: %w", m.To, err)
	}
	return o.post(ctx, m, storage.Message{ID: storage.NewID(), Created: now})
}
