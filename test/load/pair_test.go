package main

import (
	"context"
	"math/rand/v2"
	"testing"
)

// Half of the rounds are disturbed by something else that runs, some of them very much.
func TestComparisonIsNotDisturbed(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct {
		costs       [2]float64
		low, high   float64 // between which the ratio must be
		above, sure bool
	}{
		{costs: [2]float64{20, 20}, low: 0.99, high: 1.01, sure: true},
		{costs: [2]float64{20, 20.4}, low: 1.01, high: 1.03, sure: true},
		{costs: [2]float64{20, 22}, low: 1.09, high: 1.11, above: true},
		{costs: [2]float64{20, 21}, low: 1.04, high: 1.06}, // the limit itself
	} {
		var rounds comparison
		for len(rounds.ratios) < 400 && !rounds.sure(maxObserved) {
			common := 1 + 2*random.Float64() // both servers suffer
			costs := [2]float64{c.costs[0] * common, c.costs[1] * common}
			if random.IntN(2) == 0 {
				costs[random.IntN(2)] *= 1 + random.ExpFloat64()
			}
			rounds.add(costs)
		}
		low, high := rounds.interval()
		if r := rounds.ratio(); r < c.low || r > c.high || low > r || r > high {
			t.Errorf("%v: the ratio is %.3f, and the interval %.3f to %.3f", c.costs, r, low, high)
		}
		if rounds.sure(maxObserved) != c.sure && c.costs[1] != 21 || c.above && low <= maxObserved {
			t.Errorf("%v: sure: %v; interval %.3f to %.3f after %d rounds", c.costs, rounds.sure(maxObserved), low, high, len(rounds.ratios))
		}
	}
}

// Both servers get each request, one after the other, and neither is always the first one.
func TestRequestsAlternate(t *testing.T) {
	var order []int
	send := func(server int) request {
		return func(context.Context, int) error {
			order = append(order, server)
			return nil
		}
	}
	both := alternately([2]request{send(0), send(1)})
	for range 2 {
		if err := both(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
	}
	if len(order) != 4 || order[0] == order[1] || order[1] != order[2] || order[2] == order[3] {
		t.Errorf("the requests went to %v", order)
	}
}
