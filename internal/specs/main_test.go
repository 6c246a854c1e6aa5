package main

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPageIsCurrent(t *testing.T) {
	want, err := write(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	have, err := os.ReadFile("../../" + page)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(have), string(want)); diff != "" {
		t.Errorf("%s is out of date; go run ./internal/specs writes it (-have +want):\n%s", page, diff)
	}
}

func TestEveryAttackIsTriedOrExplained(t *testing.T) {
	ids, err := missing(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		t.Errorf("%s has neither a test nor a reason in %s", id, divergences)
	}
}

// What is cited in code that is not in the table would be left out in silence.
func TestCitationsAreFound(t *testing.T) {
	for text, want := range map[string]bool{"see RFC 8037, section 2": true, "RFC 80370": false, "RFC 803": false, "by RFC 8037": true} {
		if got := (specification{name: "RFC 8037"}).cited(text); got != want {
			t.Errorf("%q cites RFC 8037: %v", text, got)
		}
	}
}
