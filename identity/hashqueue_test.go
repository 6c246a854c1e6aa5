package identity

import "testing"

// When too many requests wait, the owner with the most loses one, not the one who came first.
func TestSH04_BusiestOwnerLosesATurn(t *testing.T) {
	h := newHashTurns(1)
	h.most = 3
	if h.join("running") != nil {
		t.Fatal("no hash is running, and there is no free turn")
	}
	user := h.join("user")
	var flood []chan bool
	for range 3 {
		flood = append(flood, h.join("flood"))
	}
	if len(flood[2]) != 1 || <-flood[2] {
		t.Error("the last request of the busiest owner is not dropped")
	}
	if len(user) != 0 || len(flood[0]) != 0 || len(flood[1]) != 0 {
		t.Error("requests of others are dropped")
	}
}
