package authserver

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

// Places in status lists are handed out by blocks: a node takes one for itself, which costs
// a write, and gives its places away in random order, which costs none. A list belongs to a
// day, so that no place is used twice (draft-ietf-oauth-status-list, section 13.3) and a list
// can be forgotten when its tokens have expired.
const (
	statusListTokens  = 1 << 20
	statusBlockTokens = 1 << 10
	statusListsOfDay  = 256
	statusDay         = 24 * time.Hour
	// statusBlockTries is how many blocks of a list are tried before the next list is.
	statusBlockTries = 6
)

// statusIndexes is a node's present block. It is safe for concurrent use; its zero value has
// none yet.
type statusIndexes struct {
	mu     contextLock
	day    int64
	list   int64
	places []int64 // of the list, in random order
}

func statusDayOf(now time.Time) int64 { return now.Unix() / int64(statusDay/time.Second) }

// statusListAlive reports whether a token that has not expired can be in a list.
func (s *Server) statusListAlive(list int64, now time.Time) bool {
	longest := max(s.lifetimes.AccessToken, record.MaxOwnLifetime)
	day, today := list/statusListsOfDay, statusDayOf(now)
	// Clocks of nodes differ: at midnight one may be a day ahead.
	return list >= 0 && day <= today+1 && day >= today-1-int64((longest+statusDay-1)/statusDay)
}

// next returns a place in a list that no other token has.
func (i *statusIndexes) next(ctx context.Context, store record.Store, now time.Time) (list, index int64, err error) {
	if err := i.mu.lock(ctx); err != nil {
		return 0, 0, err
	}
	defer i.mu.unlock()
	if day := statusDayOf(now); day != i.day {
		i.day, i.list, i.places = day, day*statusListsOfDay, nil
	}
	if len(i.places) == 0 {
		if err := i.take(ctx, store, now); err != nil {
			return 0, 0, err
		}
	}
	last := len(i.places) - 1
	index = i.places[last]
	i.places = i.places[:last]
	return i.list, index, nil
}

// take finds a block that no node has taken. Blocks are tried at random, so that nodes do
// not stand in each other's way, and a list that seems full is left for the next one.
func (i *statusIndexes) take(ctx context.Context, store record.Store, now time.Time) error {
	for ; i.list < (i.day+1)*statusListsOfDay; i.list++ {
		for range statusBlockTries {
			block := rand.Int64N(statusListTokens / statusBlockTokens)
			key := storage.Key{Kind: ticketkind.StatusBlock}
			binary.BigEndian.PutUint64(key.ID[:], uint64(i.list))
			binary.BigEndian.PutUint64(key.ID[8:], uint64(block))
			// It is taken for as long as any node's clock may show this day.
			err := store.Put(ctx, now, storage.Ticket{Key: key, Expires: now.Add(2 * statusDay)})
			if errors.Is(err, storage.ErrExists) {
				continue
			}
			if err != nil {
				return fmt.Errorf("take a block of a status list: %w", err)
			}
			i.places = make([]int64, 0, statusBlockTokens)
			for _, n := range rand.Perm(statusBlockTokens) {
				i.places = append(i.places, block*statusBlockTokens+int64(n))
			}
			return nil
		}
	}
	return errors.New("all status lists of this day are full")
}
