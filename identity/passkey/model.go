package passkey

import (
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
)

//go:embed models.txt
var modelsText string

// models is the table of names by AAGUID. It is read when the first name is needed.
var models = sync.OnceValue(func() map[string]string {
	names := map[string]string{}
	for line := range strings.Lines(modelsText) {
		if aaguid, name, ok := strings.Cut(strings.TrimSpace(line), " "); ok && aaguid != "#" {
			names[aaguid] = name
		}
	}
	return names
})

// ModelName returns the name of an authenticator or password manager; "" if it is unknown. Anyone
// can claim to be a model, so the name only helps users to recognize their own passkeys.
func ModelName(aaguid string) string { return models()[aaguid] }

// ParseAAGUID checks that a string is an AAGUID in lower case with hyphens.
func ParseAAGUID(s string) (string, error) {
	b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(b) != 16 || uuid(b) != s {
		return "", fmt.Errorf("%q is not an AAGUID such as ea9b8d66-4d01-1d21-3ce4-b6b48cb575d4, in lower case", s)
	}
	if formatAAGUID(b) == "" {
		return "", errors.New("an AAGUID of zeros is that of every authenticator that does not name its model")
	}
	return s, nil
}

// formatAAGUID returns an AAGUID as text; "" if it is zero, which means that there is none.
func formatAAGUID(b []byte) string {
	if len(b) != 16 || [16]byte(b) == [16]byte{} {
		return ""
	}
	return uuid(b)
}

func uuid(b []byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
}
