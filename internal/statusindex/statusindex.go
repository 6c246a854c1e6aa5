// Package statusindex assigns each token an index in a token status list that no other token
// has (draft-ietf-oauth-status-list).
//
// Indexes are taken from the store in blocks: a node takes a block for itself, which costs a
// write, and then assigns its indexes in random order, which costs none. Each list belongs to
// one day, so that no index is reused (section 13.3) and a list can be forgotten when its tokens
// have expired.
package statusindex

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/storage"
)

// ListSize is the number of indexes of a list.
const ListSize = 1 << 20

const (
	blockSize  = 1 << 10
	listsOfDay = 256
	day        = 24 * time.Hour
	// blockTries is how many blocks of a list are tried before the next list is.
	blockTries = 6
)

// Indexes assigns indexes on one node. It is safe for concurrent use.
type Indexes struct {
	store storage.Tickets
	turn  chan struct{} // contains a value while a caller uses the fields below
	day   int64
	list  int64
	free  []int64 // indexes of the list, in random order
}

// New returns Indexes without a block.
func New(store storage.Tickets) *Indexes {
	return &Indexes{store: store, turn: make(chan struct{}, 1)}
}

func dayOf(now time.Time) int64 { return now.Unix() / int64(day/time.Second) }

// Alive reports whether a list may contain a token that has not expired, if no token is valid for
// longer than longest.
func Alive(list int64, now time.Time, longest time.Duration) bool {
	listDay, today := list/listsOfDay, dayOf(now)
	// Clocks of nodes differ: at midnight one may be a day ahead.
	return list >= 0 && listDay <= today+1 && listDay >= today-1-int64((longest+day-1)/day)
}

// Next returns an index that no other token has.
func (i *Indexes) Next(ctx context.Context, now time.Time) (list, index int64, err error) {
	select {
	case i.turn <- struct{}{}:
	case <-ctx.Done():
		return 0, 0, ctx.Err()
	}
	defer func() { <-i.turn }()
	if today := dayOf(now); today != i.day {
		i.day, i.list, i.free = today, today*listsOfDay, nil
	}
	if len(i.free) == 0 {
		if err := i.takeBlock(ctx, now); err != nil {
			return 0, 0, err
		}
	}
	last := len(i.free) - 1
	index = i.free[last]
	i.free = i.free[:last]
	return i.list, index, nil
}

// takeBlock takes a block that no node has taken. It tries blocks at random, so that nodes rarely
// try the same one. If a list seems to be full, it continues with the next one.
func (i *Indexes) takeBlock(ctx context.Context, now time.Time) error {
	for ; i.list < (i.day+1)*listsOfDay; i.list++ {
		for range blockTries {
			block := rand.Int64N(ListSize / blockSize)
			key := storage.Key{Kind: ticketkind.StatusBlock}
			binary.BigEndian.PutUint64(key.ID[:], uint64(i.list))
			binary.BigEndian.PutUint64(key.ID[8:], uint64(block))
			// The block stays taken as long as the clock of any node may show this day.
			err := i.store.Put(ctx, now, storage.Ticket{Key: key, Expires: now.Add(2 * day)})
			if errors.Is(err, storage.ErrExists) {
				continue
			}
			if err != nil {
				return fmt.Errorf("take a block of a status list: %w", err)
			}
			i.free = make([]int64, 0, blockSize)
			for _, n := range rand.Perm(blockSize) {
				i.free = append(i.free, block*blockSize+int64(n))
			}
			return nil
		}
	}
	return errors.New("all status lists of this day are full")
}
