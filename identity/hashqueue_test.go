package identity

import "testing"

// When too many wait, whoever has the most waiting loses one, not who came first.
func TestSH04_TheBusiestOwnerLosesATurn(t *testing.T) {
	h := newHashTurns(1)
	h.most = 3
	if h.join("running") != nil {
		t.Fatal("nobody hashes, and there is no turn")
	}
	user := h.join("user")
	var flood []chan bool
	for range 3 {
		flood = append(flood, h.join("flood"))
	}
	if len(flood[2]) != 1 || <-flood[2] {
		t.Error("the last of the flood is not sent away")
	}
	if len(user) != 0 || len(flood[0]) != 0 || len(flood[1]) != 0 {
		t.Error("others are sent away")
	}
}
