package client

import "testing"

// A value that is encrypted for one purpose is rejected for another.
func TestEncryptedValueIsBoundToItsPurpose(t *testing.T) {
	s, err := newSeal(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := s.close("__Host-sign-in-a", "value")
	if err != nil {
		t.Fatal(err)
	}
	var opened string
	if err := s.open("__Host-sign-in-a", sealed, &opened); err != nil || opened != "value" {
		t.Errorf("%q, %v", opened, err)
	}
	for _, place := range []string{"__Host-sign-in-b", "__Host-two-sign-in-a", "signed-out", ""} {
		opened = ""
		if err := s.open(place, sealed, &opened); err == nil || opened != "" {
			t.Errorf("decrypted for %q: %q", place, opened)
		}
	}
	other, err := newSeal(append(make([]byte, 31), 1))
	if err != nil {
		t.Fatal(err)
	}
	if err := other.open("__Host-sign-in-a", sealed, &opened); err == nil {
		t.Error("decrypted with another key")
	}
	again, err := s.close("__Host-sign-in-a", "value")
	if err != nil || again == sealed {
		t.Errorf("encrypted twice to the same value (%v)", err)
	}
}
