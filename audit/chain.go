package audit

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
)

// chainVersion starts the input of every hash, so that a later version can define another one.
const chainVersion = "valetkey audit chain 1\x00"

// NextHash returns the hash of the chain after a record: of the hash before it, its sequence number,
// whether it is foreign, and its text.
func NextHash(before []byte, sequence int64, foreign bool, text string) []byte {
	body := sha256.Sum256([]byte(text))
	input := append([]byte(chainVersion), byte(len(before)))
	input = append(input, before...)
	input = binary.BigEndian.AppendUint64(input, uint64(sequence))
	if foreign {
		input = append(input, 1)
	} else {
		input = append(input, 0)
	}
	hash := sha256.Sum256(append(input, body[:]...))
	return hash[:]
}

// Authenticate returns the code with which a server that has the key marks a record that is not in
// the chain yet.
func Authenticate(key []byte, text string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

// Authentic reports whether a record has the code of Authenticate.
func Authentic(key []byte, text string, code []byte) bool {
	return hmac.Equal(Authenticate(key, text), code)
}

// Chain describes the chain of a store.
type Chain struct {
	// Sequence and Hash are those of the last record; zero and empty if there is none.
	Sequence int64
	Hash     []byte
	// Removed and RemovedHash are those of the last record that was removed because of its age;
	// zero and empty if none was. Anchor is the checkpoint of that record, signed when it was
	// removed.
	Removed     int64
	RemovedHash []byte
	Anchor      string
}
