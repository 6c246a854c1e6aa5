// Package breachedapi asks a service with the range API of Have I Been Pwned whether a password is
// known from a breach. The service gets only the first 5 of the 40 hexadecimal digits of the
// password's SHA-1 hash, and returns the others of all hashes that begin with them.
package breachedapi

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/valetkey/valetkey/internal/outgoing"
)

const (
	// timeout limits a request to the service, for which a user waits.
	timeout = 2 * time.Second
	// maxRange is the maximum size of a response. Those of Have I Been Pwned have 30 to 60 KB.
	maxRange = 1 << 20
)

// Service is a service with that API.
type Service struct {
	// URL is the address of the API, to which the digits are appended.
	URL    string
	Client *outgoing.Client
}

// Contains reports whether the service knows a password.
func (s *Service) Contains(ctx context.Context, password string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	sum := sha1.Sum([]byte(password))
	digits := strings.ToUpper(hex.EncodeToString(sum[:]))
	// With padding, the size of the response does not reveal the digits to others on the network.
	header := http.Header{"Add-Padding": {"true"}, "User-Agent": {"valetkey"}}
	status, _, body, err := s.Client.GetFrom(ctx, s.URL+digits[:5], header, maxRange)
	if err != nil {
		return false, fmt.Errorf("ask the service for breached passwords: %w", err)
	}
	if status != http.StatusOK {
		return false, fmt.Errorf("the service for breached passwords sent status %d", status)
	}
	for line := range bytes.Lines(body) {
		suffix, count, found := strings.Cut(strings.TrimSpace(string(line)), ":")
		if found && strings.EqualFold(suffix, digits[5:]) {
			return count != "0", nil // lines of the padding have the count 0
		}
	}
	return false, nil
}
