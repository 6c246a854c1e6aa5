package storagetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/valetkey/valetkey/storage"
)

func message(id string, due time.Time) storage.Message {
	return storage.Message{ID: id, Data: []byte("data of " + id), Created: noon, Due: due}
}

func messageIDs(messages []storage.Message) (ids string) {
	for _, m := range messages {
		ids += m.ID
	}
	return ids
}

func outboxClaim(t *testing.T, s Database) {
	claim := func(now, until time.Time, limit int) []storage.Message {
		t.Helper()
		return must(s.Claim(t.Context(), now, until, limit, 10))(t)
	}
	want(t, "Enqueue", s.Enqueue(t.Context(), message("b", noon.Add(time.Second)), message("a", noon), message("c", noon.Add(time.Minute))), nil)
	later := noon.Add(time.Hour)
	wantEqual(t, "Claim before anything is due", "", messageIDs(claim(noon.Add(-time.Millisecond), later, 10)))
	first := claim(noon.Add(2*time.Second), later, 1)
	claimed := message("a", later)
	claimed.Attempts = 1
	wantEqual(t, "Claim of the message that has been due longest", []storage.Message{claimed}, first)
	wantEqual(t, "Claim of the unclaimed message", "b", messageIDs(claim(noon.Add(2*time.Second), later, 10)))
	wantEqual(t, "Claim while both are claimed", "", messageIDs(claim(noon.Add(2*time.Second), later, 10)))

	want(t, "Enqueue of a waiting message", s.Enqueue(t.Context(), message("a", noon)), nil)
	wantEqual(t, "Claim after that", "", messageIDs(claim(noon.Add(2*time.Second), later, 10)))
	want(t, "Remove", s.Remove(t.Context(), "b", "missing"), nil)
	want(t, "Postpone", s.Postpone(t.Context(), "c", later.Add(time.Minute)), nil)
	want(t, "Postpone of a removed message", s.Postpone(t.Context(), "b", noon), nil)
	again := claim(later, later.Add(time.Hour), 10)
	wantEqual(t, "Claim after the claim has ended", "a", messageIDs(again))
	wantEqual(t, "attempts", 2, again[0].Attempts)
	want(t, "Remove", s.Remove(t.Context(), "a"), nil)
	wantEqual(t, "Claim of the postponed message", "c", messageIDs(claim(later.Add(time.Minute), later.Add(time.Hour), 10)))
	want(t, "Enqueue of a removed message", s.Enqueue(t.Context(), message("a", noon)), nil)
	wantEqual(t, "Claim of the message that was enqueued again", "a", messageIDs(claim(later.Add(time.Minute), later.Add(time.Hour), 10)))
}

func outboxAllOrNone(t *testing.T, s Database) {
	large := message("large", noon)
	large.Data = make([]byte, storage.MaxData+1)
	if err := s.Enqueue(t.Context(), message("a", noon), large); err == nil {
		t.Error("Enqueue accepts a message of more than MaxData bytes")
	}
	wantEqual(t, "Claim", "", messageIDs(must(s.Claim(t.Context(), noon, noon.Add(time.Hour), 10, 10))(t)))
}

func outboxFail(t *testing.T, s Database) {
	want(t, "Enqueue", s.Enqueue(t.Context(), message("a", noon), message("b", noon)), nil)
	want(t, "Fail", s.Fail(t.Context(), "a", noon, "the receiver\nrefused \xff it"), nil)
	want(t, "Fail of a message that does not exist", s.Fail(t.Context(), "missing", noon, "cause"), nil)
	later := noon.Add(time.Hour)
	wantEqual(t, "Claim", "b", messageIDs(must(s.Claim(t.Context(), noon, later, 10, 10))(t)))
	want(t, "Enqueue of a message that failed", s.Enqueue(t.Context(), message("a", noon)), nil)
	wantEqual(t, "Claim", "a", messageIDs(must(s.Claim(t.Context(), noon, later, 10, 10))(t)))
	want(t, "Fail again", s.Fail(t.Context(), "a", noon, "again"), nil)
}

func raceClaim(t *testing.T, s Database) {
	const messages, callers = 40, 8
	for i := range messages {
		want(t, "Enqueue", s.Enqueue(t.Context(), message(fmt.Sprintf("m%02d ", i), noon)), nil)
	}
	claimed := make([]string, callers)
	for _, err := range together(callers, func(i int) error {
		for {
			got, err := s.Claim(t.Context(), noon, noon.Add(time.Hour), 3, messages)
			if err != nil || len(got) == 0 {
				return err
			}
			claimed[i] += messageIDs(got)
		}
	}) {
		want(t, "Claim", err, nil)
	}
	total := map[string]int{}
	for _, ids := range claimed {
		for at := 0; at+4 <= len(ids); at += 4 {
			total[ids[at:at+4]]++
		}
	}
	// A caller may stop early when others have claimed what is due, but no message is claimed twice.
	for id, n := range total {
		if n != 1 {
			t.Errorf("%d callers claimed %q", n, id)
		}
	}
}

func outboxTurns(t *testing.T, s Database) {
	claim := func(now time.Time, limit int) string {
		t.Helper()
		return messageIDs(must(s.Claim(t.Context(), now, now.Add(time.Minute), limit, 2))(t))
	}
	enqueue := func(id, owner string, due time.Time) {
		t.Helper()
		m := message(id, due)
		m.Owner = owner
		want(t, "Enqueue", s.Enqueue(t.Context(), m), nil)
	}
	for _, id := range []string{"a", "b", "c", "d"} {
		enqueue(id, "many", noon)
	}
	now := noon.Add(time.Second)
	enqueue("x", "one", now)
	wantEqual(t, "Claim of fewer messages than are due", "ax", claim(now, 2))
	wantEqual(t, "Claim up to the limit of the owner", "b", claim(now, 10))
	wantEqual(t, "Claim at the limit of the owner", "", claim(now, 10))
	enqueue("y", "one", now)
	wantEqual(t, "Claim for another owner", "y", claim(now, 10))
	want(t, "Remove", s.Remove(t.Context(), "a"), nil)
	wantEqual(t, "Claim after one was delivered", "c", claim(now, 10))
	want(t, "Postpone", s.Postpone(t.Context(), "b", now.Add(time.Hour)), nil)
	wantEqual(t, "Claim after one was postponed", "d", claim(now, 10))
	wantEqual(t, "Claim after the claims have ended", "cxdy", claim(now.Add(time.Minute), 10))
}

func outboxWaiting(t *testing.T, s Database) {
	mine := message("a", noon)
	mine.Owner = "me"
	claimed := message("b", noon.Add(-time.Second))
	claimed.Owner = "me"
	want(t, "Enqueue", s.Enqueue(t.Context(), mine, claimed, message("c", noon)), nil)
	must(s.Claim(t.Context(), noon, noon.Add(time.Hour), 1, 1))(t)
	wantEqual(t, "Waiting", 2, must(s.Waiting(t.Context(), "me"))(t))
	want(t, "Remove", s.Remove(t.Context(), "a", "b"), nil)
	wantEqual(t, "Waiting after Remove", 0, must(s.Waiting(t.Context(), "me"))(t))
}

func outboxMail(t *testing.T, s Database) {
	mail := s.Mail()
	mine := message("a", noon)
	mine.Owner = "me"
	want(t, "Enqueue", mail.Enqueue(t.Context(), mine), nil)
	wantEqual(t, "Claim of the messages to clients", "", messageIDs(must(s.Claim(t.Context(), noon, noon.Add(time.Hour), 10, 10))(t)))
	wantEqual(t, "Waiting", 1, must(mail.Waiting(t.Context(), "me"))(t))
	wantEqual(t, "Claim", "a", messageIDs(must(mail.Claim(t.Context(), noon, noon.Add(time.Hour), 10, 10))(t)))
	want(t, "Postpone", mail.Postpone(t.Context(), "a", noon.Add(time.Minute)), nil)
	wantEqual(t, "Claim of the postponed message", "a", messageIDs(must(mail.Claim(t.Context(), noon.Add(time.Minute), noon.Add(time.Hour), 10, 10))(t)))
	want(t, "Remove", mail.Remove(t.Context(), "a"), nil)
	wantEqual(t, "Claim of a removed message", "", messageIDs(must(mail.Claim(t.Context(), noon.Add(2*time.Hour), noon.Add(3*time.Hour), 10, 10))(t)))
}
