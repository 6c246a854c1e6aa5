// Package breached says whether a password is in the list of breached passwords that ships with the
// program.
package breached

import (
	"crypto/sha256"
	_ "embed"
	"encoding/binary"
)

// The list has the 100,000 most frequent passwords of at least 8 characters among 10 million
// breached ones (Mark Burnett, 2015, as in SecLists, MIT License), and those in added.txt. That is
// more than an attacker can try at one account in two years (identity.attemptTotal), which is how
// long a list has to be (NIST SP 800-63B-4, section 3.1.1.2).
//
//go:embed list.bloom
var list []byte

// The list is a Bloom filter: it has a bit for each of `hashes` hashes of each password. A password
// that is not in the list is found in it with a probability of 1 in 20,000.
const hashes = 14

// Contains reports whether the list has a password. It is in lower case.
func Contains(password string) bool {
	found := true
	positions(password, uint64(len(list))*8, func(bit uint64) {
		found = found && list[bit/8]&(1<<(bit%8)) != 0
	})
	return found
}

// positions calls yield with the bits of a password in a filter of some size.
func positions(password string, bits uint64, yield func(bit uint64)) {
	sum := sha256.Sum256([]byte(password))
	first, step := binary.BigEndian.Uint64(sum[:]), binary.BigEndian.Uint64(sum[8:])|1
	for i := range uint64(hashes) {
		yield((first + i*step) % bits)
	}
}
