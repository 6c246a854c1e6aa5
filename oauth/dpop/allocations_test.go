//go:build !race

package dpop_test

import (
	"testing"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/dpop"
)

// The limit is a few above the current number. The JSON of a usual proof is read without reflection, which
// took 130 more.
func TestAllocationsOfAProof(t *testing.T) {
	proof := sign(t, oauth.TypDPoPProof, newKey(t), nil)
	want := dpop.Expected{Method: "POST", URIs: []string{"https://as.example.com/token"}, Now: now}
	n := testing.AllocsPerRun(100, func() {
		if _, err := dpop.Verify(proof, want); err != nil {
			t.Fatal(err)
		}
	})
	t.Logf("%v allocations", n)
	if limit := 48.0; n > limit {
		t.Errorf("%v allocations, and the limit is %v", n, limit)
	}
}
