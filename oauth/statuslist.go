package oauth

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Token Status List (draft-ietf-oauth-status-list, sections 5.1 and 8.2).
const (
	TypStatusList       = "statuslist+jwt"
	MediaTypeStatusList = "application/" + TypStatusList
)

// The statuses that every list can have (draft-ietf-oauth-status-list, section 7.1).
const (
	StatusValid     = 0x00
	StatusInvalid   = 0x01
	StatusSuspended = 0x02
)

// maxStatusListBytes limits the size of a decompressed list: 2^23 tokens with one bit each.
const maxStatusListBytes = 1 << 20

// Status is a token's status claim (draft-ietf-oauth-status-list, section 6.2).
type Status struct {
	StatusList *StatusListReference `json:"status_list,omitempty"`
}

// StatusListReference is a list and the index of a token's status in it.
type StatusListReference struct {
	Index int64  `json:"idx"`
	URI   string `json:"uri"`
}

// StatusList contains the status of many tokens (draft-ietf-oauth-status-list, section 4).
type StatusList struct {
	bits     int
	statuses []byte
}

// NewStatusList returns a list with one bit for each of the tokens, all of them valid.
func NewStatusList(tokens int) *StatusList {
	return &StatusList{bits: 1, statuses: make([]byte, (tokens+7)/8)}
}

// Invalidate sets the status of a token to StatusInvalid. It panics if the index is out of
// range.
func (l *StatusList) Invalidate(index int64) {
	l.statuses[index*int64(l.bits)/8] |= StatusInvalid << (index * int64(l.bits) % 8)
}

// Status returns a token's status, and false if the index is out of range.
func (l *StatusList) Status(index int64) (status byte, ok bool) {
	perByte := int64(8 / l.bits)
	if index < 0 || index/perByte >= int64(len(l.statuses)) {
		return 0, false
	}
	shift := index % perByte * int64(l.bits)
	return l.statuses[index/perByte] >> shift & byte(1<<l.bits-1), true
}

// statusListJSON is the encoded list (draft-ietf-oauth-status-list, section 4.2).
type statusListJSON struct {
	Bits int    `json:"bits"`
	List string `json:"lst"`
}

// MarshalJSON implements json.Marshaler.
func (l *StatusList) MarshalJSON() ([]byte, error) {
	var packed bytes.Buffer
	w, err := zlib.NewWriterLevel(&packed, zlib.BestCompression)
	if err != nil {
		return nil, fmt.Errorf("compress status list: %w", err)
	}
	if _, err := w.Write(l.statuses); err != nil {
		return nil, fmt.Errorf("compress status list: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("compress status list: %w", err)
	}
	return json.Marshal(statusListJSON{l.bits, base64.RawURLEncoding.EncodeToString(packed.Bytes())})
}

// UnmarshalJSON implements json.Unmarshaler. It accepts lists of up to 1 MiB, decompressed.
func (l *StatusList) UnmarshalJSON(document []byte) error {
	var encoded statusListJSON
	if err := json.Unmarshal(document, &encoded); err != nil {
		return fmt.Errorf("read status list: %w", err)
	}
	switch encoded.Bits {
	case 1, 2, 4, 8:
	default:
		return errors.New("a status list must have 1, 2, 4 or 8 bits for each token")
	}
	packed, err := base64.RawURLEncoding.DecodeString(encoded.List)
	if err != nil {
		return fmt.Errorf("read status list: %w", err)
	}
	r, err := zlib.NewReader(bytes.NewReader(packed))
	if err != nil {
		return fmt.Errorf("decompress status list: %w", err)
	}
	statuses, err := io.ReadAll(io.LimitReader(r, maxStatusListBytes+1))
	if err != nil {
		return fmt.Errorf("decompress status list: %w", err)
	}
	if len(statuses) > maxStatusListBytes {
		return errors.New("the status list is larger than 1 MiB")
	}
	l.bits, l.statuses = encoded.Bits, statuses
	return nil
}
