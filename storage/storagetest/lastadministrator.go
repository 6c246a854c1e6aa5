package storagetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/valetkey/valetkey/identity"
)

func raceLastAdministrator(t *testing.T, s Database) {
	ways := []func(id string) error{
		func(id string) error {
			return s.UpdateUser(t.Context(), id, func(u *identity.User) error { u.Administrator = false; return nil })
		},
		func(id string) error {
			return s.UpdateUser(t.Context(), id, func(u *identity.User) error { u.Disabled = true; return nil })
		},
		func(id string) error { return s.DeleteUser(t.Context(), id) },
	}
	before := ""
	for round := range 9 {
		ids := []string{fmt.Sprintf("first%d", round), fmt.Sprintf("second%d", round)}
		for _, id := range ids {
			u := newUser(id, id, "")
			u.Administrator = true
			create(t, s, u)
		}
		if before != "" {
			want(t, "DeleteUser with two other administrators", s.DeleteUser(t.Context(), before), nil)
		}
		errs := make([]error, len(ids))
		var both sync.WaitGroup
		for i := range ids {
			both.Go(func() { errs[i] = ways[(round/3+i*round)%len(ways)](ids[i]) })
		}
		both.Wait()
		if (errs[0] == nil) == (errs[1] == nil) || !errors.Is(errors.Join(errs...), identity.ErrLastAdministrator) {
			t.Fatalf("round %d: %v and %v, want one ErrLastAdministrator", round, errs[0], errs[1])
		}
		if before = ids[0]; errs[0] == nil {
			before = ids[1]
		}
		for i, way := range ways {
			want(t, fmt.Sprintf("way %d of the last administrator", i), way(before), identity.ErrLastAdministrator)
		}
	}
}
