package faults

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/sqldb"
)

const (
	chains = 12 // of refresh tokens, each spent for the next
	rivals = 2  // concurrent callers that spend each of them

	refresh storage.Kind = "refresh_token"
	access  storage.Kind = "access_token"
)

var masterKey = bytes.Repeat([]byte{1}, 32)

// link is one refresh token: the n-th of its chain, stored by the rival that spent the previous
// one.
type link struct {
	run      string
	chain, n int
	maker    int
}

func (l link) key(kind storage.Kind) storage.Key { return kind.Hash(fmt.Sprint(l)) }

// tickets returns the tickets of a link, which are stored together or not at all.
func (l link) tickets(now time.Time) []storage.Ticket {
	expires := now.Add(time.Hour)
	return []storage.Ticket{
		{Key: l.key(refresh), Family: fmt.Sprint(l.run, l.chain), Data: make([]byte, 200), Expires: expires},
		{Key: l.key(access), Family: fmt.Sprint(l.run, l.chain), Expires: expires},
	}
}

func (l link) next(maker int) link { return link{l.run, l.chain, l.n + 1, maker} }

// spendTickets works until it is killed. It writes a line for each link after it was stored.
func spendTickets() error {
	store, err := sqldb.Open(context.Background(), os.Getenv(databaseVariable), sqldb.Config{MasterKey: masterKey})
	if err != nil {
		return err
	}
	failed := make(chan error)
	for chain := range chains {
		go func() { failed <- spendChain(store, link{run: os.Getenv(runVariable), chain: chain}) }()
	}
	return <-failed
}

func spendChain(store *sqldb.Store, current link) error {
	if err := store.Put(context.Background(), time.Now(), current.tickets(time.Now())...); err != nil {
		return err
	}
	if err := acknowledge(current); err != nil {
		return err
	}
	for {
		results := make(chan error, rivals)
		var winner int
		for rival := range rivals {
			go func() {
				next := current.next(rival)
				now := time.Now()
				err := store.Spend(context.Background(), now, []storage.Key{current.key(refresh)}, next.tickets(now)...)
				if err == nil {
					winner = rival // a second one is a data race, and an extra line
					err = acknowledge(next)
				} else if errors.Is(err, storage.ErrSpent) {
					err = nil
				}
				results <- err
			}()
		}
		for range rivals {
			if err := <-results; err != nil {
				return fmt.Errorf("spend %+v: %w", current, err)
			}
		}
		current = current.next(winner)
	}
}

// acknowledge writes a line without buffering: what is in the pipe survives the process.
func acknowledge(l link) error {
	_, err := fmt.Fprintf(os.Stdout, "%d %d %d\n", l.chain, l.n, l.maker)
	return err
}

// journal contains the acknowledged links of one run, for each chain in order.
type journal struct {
	run   string
	links [chains][]link
}

// read reads acknowledgments and kills the process after some of them. It also reads those that
// were written before the process ended.
func read(t *testing.T, c *child, stdout *bufio.Scanner, run string, after int) *journal {
	t.Helper()
	j := &journal{run: run}
	count := 0
	if after == 0 {
		dieEarly()
		c.kill(t)
	}
	for stdout.Scan() {
		l := link{run: run}
		if _, err := fmt.Sscanf(stdout.Text(), "%d %d %d", &l.chain, &l.n, &l.maker); err != nil {
			t.Fatalf("line %q: %v", stdout.Text(), err)
		}
		if l.n != len(j.links[l.chain]) {
			t.Errorf("accepted twice: %+v after %d links", l, len(j.links[l.chain]))
			continue
		}
		j.links[l.chain] = append(j.links[l.chain], l)
		if count++; count == after {
			c.kill(t)
		}
	}
	c.waitKilled(t)
	return j
}

// check compares the store with the acknowledged links, and spends the last link of each chain, as
// its client would after the restart.
func (j *journal) check(t *testing.T, s *sqldb.Store) {
	t.Helper()
	for _, links := range j.links {
		if len(links) == 0 {
			continue
		}
		for _, used := range links[:len(links)-1] {
			wantSpent(t, s, used)
		}
		last := links[len(links)-1]
		ticket, found := find(t, s, last)
		if !found {
			t.Errorf("lost: %+v was acknowledged", last)
			continue
		}
		successors := 0
		for maker := range rivals {
			if _, found := find(t, s, last.next(maker)); found {
				successors++
			}
		}
		if spent := !ticket.Spent.IsZero(); spent != (successors == 1) {
			t.Errorf("half done: %+v is spent: %v, and has %d successors", last, spent, successors)
		}
		err := s.Spend(t.Context(), time.Now(), []storage.Key{last.key(refresh)})
		if ticket.Spent.IsZero() && err != nil || !ticket.Spent.IsZero() && !errors.Is(err, storage.ErrSpent) {
			t.Errorf("spend %+v, spent at %v: %v", last, ticket.Spent, err)
		}
		wantSpent(t, s, last)
	}
}

func wantSpent(t *testing.T, s *sqldb.Store, l link) {
	t.Helper()
	var err error
	// A closed connection may still be in the pool and return an error once.
	for range 20 {
		err = s.Spend(t.Context(), time.Now(), []storage.Key{l.key(refresh)})
		if err == nil || errors.Is(err, storage.ErrSpent) || errors.Is(err, storage.ErrNotFound) {
			break
		}
	}
	if !errors.Is(err, storage.ErrSpent) {
		t.Errorf("accepted twice, or lost: spending %+v again: %v", l, err)
	}
}

// find returns the refresh token of a link, and reports whether its tickets exist.
func find(t *testing.T, s *sqldb.Store, l link) (storage.Ticket, bool) {
	t.Helper()
	ticket, err := s.Get(t.Context(), time.Now(), l.key(refresh))
	_, twinErr := s.Get(t.Context(), time.Now(), l.key(access))
	for _, err := range []error{err, twinErr} {
		if err != nil && !errors.Is(err, storage.ErrNotFound) {
			t.Fatal(err)
		}
	}
	if (err == nil) != (twinErr == nil) {
		t.Errorf("half done: only one ticket of %+v exists", l)
	}
	return ticket, err == nil
}

// TestRE01_KilledStore kills a process that spends tickets as fast as it can.
func TestRE01_KilledStore(t *testing.T) {
	onBoth(t, func(t *testing.T, databaseURL string) {
		var journals []*journal
		acknowledged := 0
		for run := range kills() {
			stdout, pipe, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			c := start(t, "tickets", func(command *exec.Cmd) {
				command.Env = append(command.Env, databaseVariable+"="+databaseURL, fmt.Sprint(runVariable, "=", run))
				command.Stdout = pipe
			})
			pipe.Close()
			// One in ten is killed while it opens the database, or soon after.
			after := 0
			if run%10 != 0 {
				after = 1 + rand.IntN(400)
			}
			j := read(t, c, bufio.NewScanner(stdout), fmt.Sprint(run), after)
			stdout.Close()
			settle(t, databaseURL)
			journals = append(journals, j)
			for _, links := range j.links {
				acknowledged += len(links)
			}
			reopen(t, databaseURL, func(s *sqldb.Store) { j.check(t, s) })
		}
		// Spent tickets stay spent, however often the process is killed afterwards.
		reopen(t, databaseURL, func(s *sqldb.Store) {
			for _, j := range journals {
				for _, links := range j.links {
					for _, l := range links {
						wantSpent(t, s, l)
					}
				}
			}
		})
		t.Logf("%d kills, %d acknowledged writes", kills(), acknowledged)
		if acknowledged < kills() {
			t.Error("hardly anything was written")
		}
	})
}

// reopen opens the database, which recovers it, and checks it.
func reopen(t *testing.T, databaseURL string, check func(*sqldb.Store)) {
	t.Helper()
	checked := strings.Replace(databaseURL, "application_name=killed", "application_name=checking", 1)
	s, err := sqldb.Open(t.Context(), checked, sqldb.Config{MasterKey: masterKey})
	if err != nil {
		t.Fatalf("open after the kill: %v", err)
	}
	check(s)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	checkIntegrity(t, databaseURL)
	if t.Failed() {
		t.FailNow()
	}
}
