package event

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/valetkey/valetkey/storage"
)

// A command changes the database in its own process, whose log is not collected. It leaves
// its events in the outbox of the database, and a server on the database logs them.

// outboxPrefix starts the IDs of messages that are events, outboxOwner is their owner.
const (
	outboxPrefix = "event "
	outboxOwner  = "operator"
)

// queued is an event in the outbox.
type queued struct {
	Event   string      `json:"event"`
	At      time.Time   `json:"at"`
	Members [][2]string `json:"members"`
}

// Enqueue leaves an event for a server. Members that are groups are not supported.
func Enqueue(ctx context.Context, outbox storage.Outbox, now time.Time, kind *Kind, members ...slog.Attr) error {
	q := queued{Event: kind.Name, At: now.UTC()}
	for _, member := range members {
		q.Members = append(q.Members, [2]string{member.Key, safe(member).Value.String()})
	}
	data, err := json.Marshal(q)
	if err != nil {
		return fmt.Errorf("encode an event: %w", err)
	}
	message := storage.Message{ID: outboxPrefix + storage.NewID(), Owner: outboxOwner, Data: data, Created: now, Due: now}
	if err := outbox.Enqueue(ctx, message); err != nil {
		return fmt.Errorf("leave an event for the log: %w", err)
	}
	return nil
}

// RecordQueued writes the event that a message contains. It reports false if the message is
// not an event.
func (l *Log) RecordQueued(ctx context.Context, m storage.Message) bool {
	if !strings.HasPrefix(m.ID, outboxPrefix) {
		return false
	}
	var q queued
	if err := json.Unmarshal(m.Data, &q); err != nil {
		l.logger.ErrorContext(ctx, "an event in the outbox is malformed", "error", err)
		return true
	}
	kind := &Kind{Name: q.Event, unknown: true, Level: slog.LevelInfo, Meaning: "an event of a newer version"}
	if i := slices.IndexFunc(Kinds, func(k *Kind) bool { return k.Name == q.Event }); i >= 0 {
		kind = Kinds[i]
	}
	var members []slog.Attr
	for _, member := range q.Members {
		members = append(members, slog.String(member[0], member[1]))
	}
	l.Record(ctx, kind, append(members, slog.Time("at", q.At))...)
	return true
}
