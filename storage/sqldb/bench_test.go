package sqldb

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/valetkey/valetkey/storage"
)

// cpu reports the CPU time of the process per operation: on a shared machine, the elapsed time
// means little.
func cpu(b *testing.B) {
	spent := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	from := spent()
	b.Cleanup(func() { b.ReportMetric(float64((spent()-from).Microseconds())/float64(b.N), "cpu-µs/op") })
}

const benchKind storage.Kind = "refresh_token"

func benchTicket(i int64) storage.Ticket {
	return storage.Ticket{
		Key: benchKind.Hash(fmt.Sprint(i)), Grant: fmt.Sprintf("grant-%016d", i%1_000_000), Family: fmt.Sprintf("family-%015d", i%1_000_000),
		Data: make([]byte, 250), Expires: time.Now().Add(time.Hour),
	}
}

func fill(b *testing.B, s *Store, n int64) {
	b.Helper()
	for from := int64(0); from < n; from += 1000 {
		var batch []storage.Ticket
		for i := range min(1000, n-from) {
			batch = append(batch, benchTicket(from+i))
		}
		if err := s.Put(context.Background(), time.Now(), batch...); err != nil {
			b.Fatal(err)
		}
	}
}

func benchmarkStore(b *testing.B, s *Store, stored int64) {
	fill(b, s, stored)
	var next atomic.Int64
	next.Store(stored + 1<<32)
	b.Run("Get", func(b *testing.B) {
		b.SetParallelism(16) // for each of two CPUs
		b.ReportAllocs()
		cpu(b)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := s.Get(b.Context(), time.Now(), benchTicket(next.Add(7919)%stored).Key); err != nil {
					b.Error(err)
				}
			}
		})
	})
	b.Run("SpendPut", func(b *testing.B) {
		b.SetParallelism(16) // for each of two CPUs
		b.ReportAllocs()
		cpu(b)
		var mu sync.Mutex
		var times []time.Duration
		defer func() {
			slices.Sort(times)
			b.ReportMetric(float64(times[len(times)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(times[len(times)*99/100].Microseconds()), "p99-µs")
			b.ReportMetric(float64(times[len(times)*999/1000].Microseconds()), "p99.9-µs")
		}()
		b.RunParallel(func(pb *testing.PB) {
			var took []time.Duration
			defer func() {
				mu.Lock()
				defer mu.Unlock()
				times = append(times, took...)
			}()
			last := benchTicket(next.Add(1))
			if err := s.Put(b.Context(), time.Now(), last); err != nil {
				b.Error(err)
			}
			for pb.Next() {
				t := benchTicket(next.Add(1))
				from := time.Now()
				if err := s.Spend(b.Context(), from, []storage.Key{last.Key}, t); err != nil {
					b.Error(err)
				}
				took = append(took, time.Since(from))
				last = t
			}
		})
	})
}

func BenchmarkSQLite(b *testing.B) {
	for _, stored := range []int64{1_000, 1_000_000} {
		b.Run(fmt.Sprint(stored), func(b *testing.B) { benchmarkStore(b, openTest(b, sqliteDatabase(b)), stored) })
	}
}

func BenchmarkPostgreSQL(b *testing.B) {
	for _, stored := range []int64{1_000, 1_000_000} {
		b.Run(fmt.Sprint(stored), func(b *testing.B) { benchmarkStore(b, openTest(b, postgreSQLDatabase(b)), stored) })
	}
}
