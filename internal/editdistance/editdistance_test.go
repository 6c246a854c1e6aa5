package editdistance

import "testing"

func TestBetween(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want int
	}{
		{"", "", 0},
		{"scope", "scope", 0},
		{"", "scope", 5},
		{"scope", "", 5},
		{"redirect_uri", "redirect_uris", 1},
		{"isuer", "issuer", 1},
		{"levle", "level", 2},
		{"kitten", "sitting", 3},
		{"abc", "xyz", 3},
	} {
		if got := Between(test.a, test.b); got != test.want {
			t.Errorf("Between(%q, %q) is %d, not %d", test.a, test.b, got, test.want)
		}
		if got := Between(test.b, test.a); got != test.want {
			t.Errorf("Between(%q, %q) is %d, not %d", test.b, test.a, got, test.want)
		}
	}
}
