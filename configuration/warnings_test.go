package configuration

import (
	"strings"
	"testing"
)

// Wrong secrets never lock a client out, so a secret that can be guessed will be guessed.
func TestSH02_GuessableSecretsCauseAWarning(t *testing.T) {
	for secret, want := range map[string]bool{
		"hunter2":                          true,
		"0123456789abcdef":                 true,
		"3f2a9c7d1e8b4f6a0c5d":             true, // 80 bits
		"d9428888-122b-11e1-b85c-61cd3c":   true,
		strings.Repeat("ab", 40):           true,
		"my-company-secret-42":             true,
		"7Fjfp0ZBr1KtDRbnfVdmIw":           false, // 128 bits in base64url
		"9f86d081884c7d659a2feaa0c55ad015": false, // in hex
		"NB2W45DFOIZA4TSFKRGQ2JBRGE":       false, // in base32
	} {
		for _, c := range []Client{{ID: "a", Secret: secret}, {ID: "a", SecretNext: secret}} {
			warnings := strings.Join((&Declarations{Clients: []Client{c}}).Warnings(), "\n")
			if got := strings.Contains(warnings, "can be guessed"); got != want || strings.Contains(warnings, secret) {
				t.Errorf("%s: warned of: %v, want %v: %s", secret, got, want, warnings)
			}
		}
	}
}
