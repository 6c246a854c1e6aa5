package demo

import (
	"bytes"
	"testing"
)

func TestEveryScene(t *testing.T) {
	var out bytes.Buffer
	if err := Check(t.Context(), &out, t.Output()); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for _, s := range scenes() {
		if !bytes.Contains(out.Bytes(), []byte(s.title)) {
			t.Errorf("the scene %q was not run", s.title)
		}
	}
}
