package storagetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/valetkey/valetkey/storage"
)

// The model of one ticket for porcupine: what each call may return in each state of the
// ticket.
type (
	ticketState int
	ticketCall  struct {
		method string
		key    storage.Key
	}
	ticketResult struct {
		err   error
		spent bool // Get found it spent
	}
)

const (
	absent ticketState = iota
	live
	spent
)

func step(state any, input, output any) (bool, any) {
	now, call, result := state.(ticketState), input.(ticketCall), output.(ticketResult)
	switch call.method {
	case "Put":
		if now == absent {
			return result.err == nil, live
		}
		return errors.Is(result.err, storage.ErrExists), now
	case "Get":
		if now == absent {
			return errors.Is(result.err, storage.ErrNotFound), now
		}
		return result.err == nil && result.spent == (now == spent), now
	case "Spend":
		switch now {
		case live:
			return result.err == nil, spent
		case spent:
			return errors.Is(result.err, storage.ErrSpent), now
		default:
			return errors.Is(result.err, storage.ErrNotFound), now
		}
	default: // Delete
		return result.err == nil, absent
	}
}

var ticketModel = porcupine.Model{
	Init: func() any { return absent },
	Step: step,
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		keys := map[storage.Key][]porcupine.Operation{}
		for _, op := range history {
			key := op.Input.(ticketCall).key
			keys[key] = append(keys[key], op)
		}
		var parts [][]porcupine.Operation
		for _, part := range keys {
			parts = append(parts, part)
		}
		return parts
	},
	DescribeOperation: func(input, output any) string {
		return fmt.Sprintf("%s: %+v", input.(ticketCall).method, output)
	},
}

// Linearizable runs concurrent callers on a few tickets and reports whether some sequential
// order of the calls explains their results.
func Linearizable(s storage.Tickets, seed uint64) bool {
	const callers, calls, tickets = 12, 20, 4
	var mu sync.Mutex
	var history []porcupine.Operation
	began := time.Now()
	together(callers, func(caller int) error {
		random := rand.New(rand.NewPCG(seed, uint64(caller)))
		for range calls {
			call := ticketCall{method: "Spend", key: codes.Hash(fmt.Sprint(seed, " ", random.IntN(tickets)))}
			if n := random.IntN(10); n < 5 {
				call.method = [...]string{"Put", "Put", "Get", "Get", "Delete"}[n]
			}
			from := time.Since(began)
			result := perform(s, call)
			op := porcupine.Operation{ClientId: caller, Input: call, Call: int64(from), Output: result, Return: int64(time.Since(began))}
			mu.Lock()
			history = append(history, op)
			mu.Unlock()
		}
		return nil
	})
	return porcupine.CheckOperations(ticketModel, history)
}

func perform(s storage.Tickets, call ticketCall) ticketResult {
	ctx := context.Background()
	switch call.method {
	case "Put":
		return ticketResult{err: s.Put(ctx, noon, storage.Ticket{Key: call.key, Expires: noon.Add(time.Hour)})}
	case "Get":
		t, err := s.Get(ctx, noon, call.key)
		return ticketResult{err: err, spent: !t.Spent.IsZero()}
	case "Spend":
		return ticketResult{err: s.Spend(ctx, noon, []storage.Key{call.key})}
	default:
		return ticketResult{err: s.Delete(ctx, call.key)}
	}
}

func linearizable(t *testing.T, s storage.Tickets) {
	for seed := range rounds(20) {
		if !Linearizable(s, uint64(seed)) {
			t.Fatalf("seed %d: no order of the calls explains the results", seed)
		}
	}
}
