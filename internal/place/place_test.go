package place_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/valetkey/valetkey/internal/place"
)

// The MaxMind DB file format, version 2: a tree of bits, 16 zero bytes, the data, and the metadata.

func str(s string) []byte { return append([]byte{2<<5 | byte(len(s))}, s...) }

func number(kind byte, n ...byte) []byte { return append([]byte{kind<<5 | byte(len(n))}, n...) }

func object(members ...any) []byte {
	b := []byte{7<<5 | byte(len(members)/2)}
	for i := 0; i < len(members); i += 2 {
		b = append(append(b, str(members[i].(string))...), members[i+1].([]byte)...)
	}
	return b
}

// file returns a database with one network of IPv4 addresses.
func file(network netip.Prefix, data []byte) []byte {
	nodes := network.Bits()
	record := func(n int) []byte { return []byte{byte(n >> 16), byte(n >> 8), byte(n)} }
	var b []byte
	address := network.Addr().As4()
	for i := range nodes {
		next := i + 1
		if next == nodes {
			next = nodes + 16 // the first byte of the data
		}
		pair := [2]int{nodes, nodes} // nothing is known
		pair[address[i/8]>>(7-i%8)&1] = next
		b = append(append(b, record(pair[0])...), record(pair[1])...)
	}
	b = append(append(b, make([]byte, 16)...), data...)
	b = append(b, "\xab\xcd\xefMaxMind.com"...)
	return append(b, object(
		"node_count", number(6, byte(nodes)), "record_size", number(5, 24), "ip_version", number(5, 4), "database_type", str("Test-City"),
		"languages", []byte{1, 4, 2<<5 | 2, 'e', 'n'}, "binary_format_major_version", number(5, 2), "binary_format_minor_version", number(5),
		"build_epoch", []byte{1, 2, 1}, "description", object("en", str("test")),
	)...)
}

func TestPlaceOfAnAddress(t *testing.T) {
	data := object(
		"city", object("names", object("en", str("Vienna"), "de", str("Wien"))),
		"country", object("names", object("en", str("Austria"))),
	)
	path := filepath.Join(t.TempDir(), "places.mmdb")
	if err := os.WriteFile(path, file(netip.MustParsePrefix("192.0.2.0/24"), data), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := place.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ address, language, want string }{
		{"192.0.2.77", "en", "Vienna, Austria"},
		{"192.0.2.1", "de-AT", "Wien, Austria"},
		{"::ffff:192.0.2.1", "pl", "Vienna, Austria"},
		{"192.0.3.1", "en", ""},
		{"2001:db8::1", "en", ""},
	} {
		if got := d.Of(netip.MustParseAddr(test.address), test.language); got != test.want {
			t.Errorf("%s in %s: %q, want %q", test.address, test.language, got, test.want)
		}
	}
	if got := d.Of(netip.Addr{}, "en"); got != "" {
		t.Errorf("no address: %q", got)
	}
}

func TestFileThatIsNoDatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "places.mmdb")
	if err := os.WriteFile(path, []byte("not a database"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := place.Open(path); err == nil {
		t.Error("a file that is no database was opened")
	}
}
