package breached

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"unicode/utf8"
)

var source = flag.String("passwords", "", "write the list from this `file` of passwords, the most frequent first: 10_million_password_list_top_1000000.txt of SecLists")

// TestWriteList writes the list again.
func TestWriteList(t *testing.T) {
	if *source == "" {
		t.Skip("no -passwords file")
	}
	frequent, err := os.ReadFile(*source)
	if err != nil {
		t.Fatal(err)
	}
	added, err := os.ReadFile("added.txt")
	if err != nil {
		t.Fatal(err)
	}
	filter, seen := make([]byte, 256<<10), map[string]bool{}
	add := func(file []byte, most int) {
		for line := range bytes.Lines(file) {
			password := strings.ToLower(strings.TrimSuffix(string(line), "\n"))
			if len(seen) == most || utf8.RuneCountInString(password) < 8 || seen[password] {
				continue
			}
			seen[password] = true
			positions(password, uint64(len(filter))*8, func(bit uint64) { filter[bit/8] |= 1 << (bit % 8) })
		}
	}
	add(frequent, 100_000)
	add(added, -1)
	if err := os.WriteFile("list.bloom", filter, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d passwords", len(seen))
}

func TestContains(t *testing.T) {
	added, err := os.ReadFile("added.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, password := range append(strings.Fields(string(added)), "password", "12345678", "iloveyou", "liverpool1", "michelle", "charlie123") {
		if len(password) >= 8 && !Contains(password) {
			t.Errorf("the list lacks %q", password)
		}
	}
	for _, password := range []string{"lunar module 11", "a lighthouse keeper's cat", "kv7-vault-monsoon", "", strings.Repeat("x", 1<<20)} {
		if Contains(password) {
			t.Errorf("the list has %q", password)
		}
	}
}

// A filter that is too full would refuse good passwords.
func TestFewPasswordsAreRefusedByMistake(t *testing.T) {
	const tried = 1_000_000
	wrong := 0
	for i := range tried {
		if Contains(fmt.Sprintf("unlikely passphrase %d", i)) {
			wrong++
		}
	}
	t.Logf("note: %d of %d", wrong, tried)
	if wrong > tried/20_000 {
		t.Errorf("%d of %d passwords that are not in the list are refused", wrong, tried)
	}
}

func BenchmarkContains(b *testing.B) {
	for b.Loop() {
		Contains("a lighthouse keeper's cat")
	}
}
