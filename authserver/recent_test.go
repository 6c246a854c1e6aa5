package authserver

import "testing"

func TestRecentForgetsTheOldestEntries(t *testing.T) {
	r := recent[int, int]{limit: 10}
	for i := range 100 {
		r.put(i, i)
		if n := len(r.now) + len(r.old); n > 10 {
			t.Fatalf("%d entries after %d were added", n, i+1)
		}
		for key := max(0, i-4); key <= i; key++ {
			if _, ok := r.get(key); !ok {
				t.Fatalf("%d is missing after %d was added", key, i)
			}
		}
	}
	if _, ok := r.get(50); ok {
		t.Error("an old entry is still cached")
	}
}
