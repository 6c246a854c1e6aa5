package audit

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"
)

// Record says who did what. A store writes it together with the change that it is about, and
// never changes it.
type Record struct {
	// ID is 32 hexadecimal digits, which begin with the time: records sort by ID in the order in
	// which they were made, as far as the clocks of the nodes agree.
	ID   string
	Time time.Time // UTC, in milliseconds
	// Event is the name of an Event.
	Event string
	Actor Actor
	// Object is what was changed.
	Object Object
	// Subject and ClientID are the user and the client that the record is about, if any.
	Subject  string
	ClientID string
	// Before and After are the members that differ, as JSON values. Secret members have the value
	// Secret. Before is nil if the object was created, After is nil if it was deleted.
	Before, After map[string]json.RawMessage
	// Details are further members, by name.
	Details map[string]string

	// Sequence is the position in the chain; zero until the record is sealed, which takes about a
	// second. Hash is the hash of the chain up to this record.
	Sequence int64
	Hash     []byte
	// Foreign says that the record was not written by a server that has the master key.
	Foreign bool
	// Text is the stored form, from which Hash was computed.
	Text string
}

// Object is what a record is about.
type Object struct {
	Kind string // one of the ObjectKind constants
	ID   string
	Name string
}

// The kinds of objects.
const (
	ObjectUser        = "user"
	ObjectClient      = "client"
	ObjectScope       = "scope"
	ObjectResource    = "resource"
	ObjectKey         = "key"
	ObjectGrant       = "grant"
	ObjectSession     = "session"
	ObjectToken       = "token"
	ObjectDeclaration = "declaration"
	ObjectRequest     = "request"
	ObjectLog         = "log"
	ObjectMessage     = "message"
	ObjectMasterKey   = "master_key"
)

// Secret is the value of a member that is secret and is set, NewSecret that of one that was
// replaced by another secret.
const (
	Secret    = `"(secret)"`
	NewSecret = `"(another secret)"`
)

// maxText is the length of a text in a record, in bytes.
const maxText = 600

// version is the version of the stored form.
const version = 1

// stored is the stored form of a record. Its text is kept as it was written, so that the order of
// its members and the encoder may change in a later version.
type stored struct {
	Version   int                        `json:"v"`
	ID        string                     `json:"id"`
	Time      string                     `json:"time"`
	Event     string                     `json:"event"`
	Actor     storedActor                `json:"actor"`
	Reference string                     `json:"reference,omitempty"`
	TraceID   string                     `json:"trace_id,omitempty"`
	Object    *storedObject              `json:"object,omitempty"`
	Subject   string                     `json:"subject,omitempty"`
	ClientID  string                     `json:"client_id,omitempty"`
	Before    map[string]json.RawMessage `json:"before,omitempty"`
	After     map[string]json.RawMessage `json:"after,omitempty"`
	Details   map[string]string          `json:"details,omitempty"`
}

type storedActor struct {
	Kind       Kind   `json:"kind"`
	ID         string `json:"id,omitempty"`
	Name       string `json:"name,omitempty"`
	OnBehalfOf string `json:"on_behalf_of,omitempty"`
	ClientID   string `json:"client_id,omitempty"`
	Address    string `json:"address,omitempty"`
}

type storedObject struct {
	Kind string `json:"kind"`
	ID   string `json:"id,omitempty"`
	Name string `json:"name,omitempty"`
}

const timeFormat = "2006-01-02T15:04:05.000Z"

// Complete sets what a new record has in common with every other one: ID, time, the actor of ctx,
// and Text. Stores call it.
func (r *Record) Complete(ctx context.Context) error {
	r.ID, r.Time = newID()
	if r.Actor.Kind == "" {
		r.Actor = ActorOf(ctx)
	}
	if r.Actor.Kind == "" {
		r.Actor.Kind = KindUnknown
	}
	r.Event, r.Subject, r.ClientID = clean(r.Event), clean(r.Subject), clean(r.ClientID)
	a := &r.Actor
	for _, member := range []*string{&a.ID, &a.Name, &a.OnBehalfOf, &a.ClientID, &a.Address, &a.Reference, &a.TraceID, &r.Object.ID, &r.Object.Name} {
		*member = clean(*member)
	}
	s := stored{
		Version: version, ID: r.ID, Time: r.Time.Format(timeFormat), Event: r.Event,
		Actor:     storedActor{a.Kind, a.ID, a.Name, a.OnBehalfOf, a.ClientID, a.Address},
		Reference: a.Reference, TraceID: a.TraceID,
		Subject: r.Subject, ClientID: r.ClientID,
		Before: r.Before, After: r.After,
	}
	if r.Object.Kind != "" {
		s.Object = &storedObject{r.Object.Kind, r.Object.ID, r.Object.Name}
	}
	for name, value := range r.Details {
		if value == "" {
			continue
		}
		if s.Details == nil {
			s.Details = map[string]string{}
		}
		s.Details[name] = clean(value)
	}
	text, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode an audit record: %w", err)
	}
	r.Text = string(text)
	return nil
}

// Decode returns the record of a stored text. It rejects versions that it does not know.
func Decode(text string) (Record, error) {
	var s stored
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return Record{}, fmt.Errorf("decode an audit record: %w", err)
	}
	if s.Version != version {
		return Record{}, fmt.Errorf("decode an audit record: version %d is unknown", s.Version)
	}
	at, err := time.Parse(timeFormat, s.Time)
	if err != nil {
		return Record{}, fmt.Errorf("decode an audit record: %w", err)
	}
	r := Record{
		ID: s.ID, Time: at, Event: s.Event,
		Actor:   Actor{s.Actor.Kind, s.Actor.ID, s.Actor.Name, s.Actor.OnBehalfOf, s.Actor.ClientID, s.Actor.Address, s.Reference, s.TraceID},
		Subject: s.Subject, ClientID: s.ClientID, Before: s.Before, After: s.After, Details: s.Details, Text: text,
	}
	if s.Object != nil {
		r.Object = Object{s.Object.Kind, s.Object.ID, s.Object.Name}
	}
	return r, nil
}

// LogValue shows what identifies the record.
func (r Record) LogValue() slog.Value {
	return slog.GroupValue(slog.String("id", r.ID), slog.String("name", r.Event))
}

// clean returns a text that every database stores, at most maxText bytes.
func clean(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
	}
	s = strings.ToValidUTF8(s, "\uFFFD")
	return strings.ReplaceAll(s, "\x00", "\uFFFD")
}

// lastID is the time of the last ID in milliseconds, followed by 16 bits that count.
var lastID atomic.Int64

func newID() (string, time.Time) {
	now := time.Now()
	for {
		last := lastID.Load()
		next := max(last+1, now.UnixMilli()<<16)
		if lastID.CompareAndSwap(last, next) {
			var random [8]byte
			rand.Read(random[:])
			return fmt.Sprintf("%016x", next) + hex.EncodeToString(random[:]), time.UnixMilli(next >> 16).UTC()
		}
	}
}

// firstID returns the least ID of a time.
func firstID(at time.Time) string { return fmt.Sprintf("%016x", max(at.UnixMilli(), 0)<<16) }

// referenceAlphabet is Crockford's base 32, which people can read out.
const referenceAlphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// NewReference returns the reference of a request: 40 random bits as two groups of four characters.
func NewReference() string {
	var b [8]byte
	rand.Read(b[:])
	ref := make([]byte, 0, 9)
	for i, random := range b {
		if i == 4 {
			ref = append(ref, '-')
		}
		ref = append(ref, referenceAlphabet[random%32])
	}
	return string(ref)
}

// Refine adds what the author of a change knows about it to the record that a store has made.
func (r *Record) Refine(known Record) {
	if known.Event != "" {
		r.Event = known.Event
	}
	if known.Subject != "" {
		r.Subject = known.Subject
	}
	if known.ClientID != "" {
		r.ClientID = known.ClientID
	}
	for name, value := range known.Details {
		if r.Details == nil {
			r.Details = map[string]string{}
		}
		r.Details[name] = value
	}
}
