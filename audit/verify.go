package audit

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"
)

// Problem is something that Verify has found.
type Problem struct {
	// Sequence is the record that the problem is about; zero if it is about none.
	Sequence int64  `json:"sequence,omitempty"`
	ID       string `json:"id,omitempty"`
	// Text says what is wrong.
	Text string `json:"problem"`
}

func (p Problem) String() string {
	if p.Sequence == 0 {
		return p.Text
	}
	return fmt.Sprintf("record %d: %s", p.Sequence, p.Text)
}

// Report is the result of Verify.
type Report struct {
	// First and Last are the first and last record of the chain that were verified; zero if there
	// are none. Hash is the hash after the last one.
	First int64  `json:"first"`
	Last  int64  `json:"last"`
	Hash  string `json:"hash"`
	// Removed is the last record that was removed because of its age; zero if none was.
	Removed int64 `json:"removed,omitempty"`
	// Checkpoints is how many checkpoints agree with the chain.
	Checkpoints int `json:"checkpoints"`
	// Foreign are records that no server with the master key has written.
	Foreign int `json:"foreign,omitempty"`
	// Problems are what is wrong, at most maxProblems.
	Problems []Problem `json:"problems"`
}

// maxProblems limits the problems of a report.
const maxProblems = 100

// Sealed is a chain that can be verified: that of a store, or one that was fetched from a server.
type Sealed interface {
	AuditChain(ctx context.Context) (Chain, error)
	// AuditSealed is described at Log.
	AuditSealed(ctx context.Context, after int64, limit int) ([]Record, error)
	// AuditIndex returns what a record is found by in a search: event, actor, subject and client.
	AuditIndex(ctx context.Context, after int64, limit int) ([]Index, error)
}

// Index are the members of a record that a store repeats next to it.
type Index struct {
	Sequence                        int64
	ID                              string
	Event, Actor, Subject, ClientID string
}

// verifyStep is how many records are read at once.
const verifyStep = 1000

// verification is one call of Verify.
type verification struct {
	report Report
	// wanted are the checkpoints by the record that they are about.
	wanted map[int64][]*Checkpoint
	// removedBefore is from the signed statement about the removed beginning; zero if there is none.
	removedBefore time.Time
}

func (v *verification) problem(sequence int64, id, format string, args ...any) {
	if len(v.report.Problems) < maxProblems {
		v.report.Problems = append(v.report.Problems, Problem{sequence, id, fmt.Sprintf(format, args...)})
	}
}

// Verify reads a whole chain and compares it with checkpoints, which were kept
// elsewhere. It finds records that were removed, changed, added, or put in another order. Without a
// checkpoint, it finds only what was not done to the rest of the chain as well: whoever can write to
// the database can compute all hashes anew.
//
// keys are the thumbprints of the keys of the server, with which what remains of a removed beginning of
// the chain must be signed.
func Verify(ctx context.Context, store Sealed, checkpoints []*Checkpoint, keys ...string) (Report, error) {
	v := verification{wanted: map[int64][]*Checkpoint{}, report: Report{Problems: []Problem{}}}
	chain, err := store.AuditChain(ctx)
	if err != nil {
		return v.report, err
	}
	v.report.Removed = chain.Removed
	v.anchor(chain, keys)
	for _, c := range checkpoints {
		switch {
		case c.Sequence > chain.Sequence:
			v.problem(c.Sequence, "", "a checkpoint of %s says that it exists, but the chain ends at record %d: the end of the chain was removed", c.Time.Format(timeFormat), chain.Sequence)
		case v.removedTooEarly(c, chain):
			v.problem(c.Sequence+1, "", "it was made after a checkpoint of %s, but was removed as one made before %s", c.Time.Format(timeFormat), v.removedBefore.Format(timeFormat))
		case c.Sequence > chain.Removed:
			v.wanted[c.Sequence] = append(v.wanted[c.Sequence], c)
		case c.Sequence == chain.Removed && !bytes.Equal(c.Hash, chain.RemovedHash):
			v.problem(c.Sequence, "", "the last removed record has another hash in a checkpoint of %s: records before it were changed", c.Time.Format(timeFormat))
		case c.Sequence == chain.Removed:
			v.report.Checkpoints++
		}
	}
	last, hash := chain.Removed, chain.RemovedHash
	for {
		records, err := store.AuditSealed(ctx, last, verifyStep)
		if err != nil {
			return v.report, err
		}
		index, err := store.AuditIndex(ctx, last, verifyStep)
		if err != nil {
			return v.report, err
		}
		if len(records) == 0 {
			break
		}
		for i := range records {
			r := &records[i]
			if i < len(index) && index[i].Sequence == r.Sequence {
				v.searchable(r, &index[i])
			}
			last, hash = v.next(r, last, hash)
		}
		if last > chain.Sequence { // written since the chain was read
			if chain, err = store.AuditChain(ctx); err != nil {
				return v.report, err
			}
		}
	}
	if last < chain.Sequence {
		v.problem(last+1, "", "it is missing, and so are all after it up to %d", chain.Sequence)
	} else if last == chain.Sequence && !bytes.Equal(hash, chain.Hash) {
		v.problem(last, "", "its hash is not that of the end of the chain")
	}
	v.report.Last, v.report.Hash = last, fmt.Sprintf("%x", hash)
	return v.report, nil
}

// anchor checks what is left of the removed beginning of the chain.
func (v *verification) anchor(chain Chain, keys []string) {
	if chain.Removed == 0 {
		return
	}
	anchor, err := ParseCheckpoint(chain.Anchor)
	switch {
	case err != nil:
		v.problem(chain.Removed, "", "the statement about the removed beginning of the chain is invalid: %v", err)
	case !slices.Contains(keys, anchor.Key):
		v.problem(chain.Removed, "", "the statement about the removed beginning of the chain is signed with the unknown key %s", anchor.Key)
	case anchor.RemovedBefore.IsZero():
		v.problem(chain.Removed, "", "the statement about the removed beginning of the chain is a checkpoint: the server did not remove these records")
	case anchor.Sequence != chain.Removed || !bytes.Equal(anchor.Hash, chain.RemovedHash):
		v.problem(chain.Removed, "", "the chain begins after another record than the signed statement says")
	default:
		v.removedBefore = anchor.RemovedBefore
	}
}

// sealDelay is more than passes between the time of a record and its place in the chain.
const sealDelay = time.Hour

// removedTooEarly reports whether records that were made after a checkpoint are missing at the
// beginning of the chain, although they cannot be old enough: their times were changed.
func (v *verification) removedTooEarly(c *Checkpoint, chain Chain) bool {
	return c.Sequence < chain.Removed && !v.removedBefore.IsZero() && c.Time.Add(-sealDelay).After(v.removedBefore)
}

// searchable checks that a record is found by what is in it.
func (v *verification) searchable(r *Record, i *Index) {
	if i.ID != r.ID || i.Event != r.Event || i.Actor != r.Actor.ID || i.Subject != r.Subject || i.ClientID != r.ClientID {
		v.problem(r.Sequence, r.ID, "what it is found by in a search was changed")
	}
}

// next checks a record and returns the sequence number and hash with which the chain continues.
func (v *verification) next(r *Record, last int64, hash []byte) (int64, []byte) {
	if v.report.First == 0 {
		v.report.First = r.Sequence
	}
	switch {
	case r.Sequence == last+2:
		v.problem(last+1, "", "it is missing")
	case r.Sequence > last+2:
		v.problem(last+1, "", "it is missing, and so are all after it up to %d", r.Sequence-1)
	case r.Sequence <= last:
		v.problem(r.Sequence, r.ID, "the chain has this number twice")
		return last, hash
	}
	want := NextHash(hash, r.Sequence, r.Foreign, r.Text)
	if r.Sequence == last+1 && !bytes.Equal(want, r.Hash) {
		v.problem(r.Sequence, r.ID, "it was changed, or it is in the place of another record")
	}
	if r.Foreign {
		v.report.Foreign++
		v.problem(r.Sequence, r.ID, "no server with the master key has written it")
	}
	for _, c := range v.wanted[r.Sequence] {
		if bytes.Equal(c.Hash, r.Hash) {
			v.report.Checkpoints++
		} else {
			v.problem(r.Sequence, r.ID, "its hash differs from that in a checkpoint of %s: it or a record before it was changed", c.Time.Format(timeFormat))
		}
	}
	return r.Sequence, r.Hash
}
