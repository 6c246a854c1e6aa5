//go:build !race

package sqldb

import (
	"log/slog"
	"testing"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/internal/telemetry"
)

// A store that is measured reads in the same way as another one, and allocates nothing more.
func TestAMeasuredStoreReadsInTheSameWay(t *testing.T) {
	const user = "the-user"
	measured := telemetry.New(telemetry.Config{Scheme: "https"})
	var allocations [2]float64
	for i, log := range []*slog.Logger{slog.New(slog.DiscardHandler), measured.Logger(slog.New(slog.DiscardHandler))} {
		s, err := Open(t.Context(), sqliteURL(t), Config{MasterKey: testMasterKey, Logger: log})
		if err != nil {
			t.Fatal(err)
		}
		now := time.Now()
		if err := s.CreateUser(t.Context(), &identity.User{ID: user, Username: "ada", Origin: identity.OriginSignedUp, CreatedAt: now, UpdatedAt: now}); err != nil {
			t.Fatal(err)
		}
		allocations[i] = testing.AllocsPerRun(100, func() {
			if _, err := s.User(t.Context(), user); err != nil {
				t.Fatal(err)
			}
		})
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if allocations[1] > allocations[0] {
		t.Errorf("a read of a user takes %v allocations, and %v if it is measured", allocations[0], allocations[1])
	}
}
