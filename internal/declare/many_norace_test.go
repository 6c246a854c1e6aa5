//go:build !race

package declare

import (
	"fmt"
	"testing"
	"time"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/oauth"
)

// Reloading thousands of unchanged users and clients must not take quadratic time.
func TestManyDeclarations(t *testing.T) {
	const many = 2000
	var d configuration.Declarations
	for i := range many {
		d.Users = append(d.Users, configuration.User{Username: fmt.Sprintf("user%d", i)})
		d.Clients = append(d.Clients, configuration.Client{ID: fmt.Sprintf("client%d", i), ClientMetadata: oauth.ClientMetadata{
			RedirectURIs: []string{"https://app.example.com/callback"},
		}})
	}
	store := openTestStore(t)
	began := time.Now()
	if changes, err := apply(t, store, &d, ""); err != nil || len(changes) != 2*many {
		t.Fatalf("%d changes, %v", len(changes), err)
	}
	first := time.Since(began)
	if _, err := apply(t, store, &d, "file:v.yaml"); err != nil {
		t.Fatal(err)
	}
	// Quadratic time would be more than ten times that of writing all records. Other programs may take
	// the processor from one try, but not from each.
	var took time.Duration
	for range 3 {
		began = time.Now()
		changes, err := apply(t, store, &d, "file:v.yaml")
		if err != nil || len(changes) != 0 {
			t.Errorf("%d changes, %v", len(changes), err)
		}
		if took = time.Since(began); took <= 4*first {
			return
		}
	}
	t.Errorf("applying %d records took %v, and again %v", 2*many, first, took)
}
