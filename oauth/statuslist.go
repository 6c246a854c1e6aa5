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

// maxStatusListBytes bounds a list that is read: 2^23 tokens of one bit.
const maxStatusListBytes = 1 << 20

// Status is the claim status of a token (draft-ietf-oauth-status-list, section 6.2).
type Status struct {
	StatusList *StatusListReference `json:"status_list,omitempty"`
}

// StatusListReference says where in which list a token's status is.
type StatusListReference struct {
	Index int64  `json:"idx"`
	URI   string `json:"uri"`
}

// StatusList has a status for each of many tokens (draft-ietf-oauth-status-list, section 4).
type StatusList struct {
	bits     int
	statuses []byte
}

// NewStatusList returns a list of so many tokens that are all valid, with one bit each.
func NewStatusList(tokens int) *StatusList {
	return &StatusList{bits: 1, statuses: make([]byte, (tokens+7)/8)}
}

// Invalidate sets the status of a token to StatusInvalid; the index is one of the list's.
func (l *StatusList) Invalidate(index int64) {
	l.statuses[index*int64(l.bits)/8] |= StatusInvalid << (index * int64(l.bits) % 8)
}

// Status returns a token's status; false if the index is none of the list's.
func (l *StatusList) Status(index int64) (status byte, ok bool) {
	perByte := int64(8 / l.bits)
	if index < 0 || index/perByte >= int64(len(l.statuses)) {
		return 0, false
	}
	shift := index % perByte * int64(l.bits)
	return l.statuses[index/perByte] >> shift & byte(1<<l.bits-1), true
}

// statusListJSON is a list as it travels (draft-ietf-oauth-status-list, section 4.2).
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

// UnmarshalJSON implements json.Unmarshaler. It takes lists of up to 1 MiB unpacked.
func (l *StatusList) UnmarshalJSON(document []byte) error {
	var travelling statusListJSON
	if err := json.Unmarshal(document, &travelling); err != nil {
		return fmt.Errorf("read status list: %w", err)
	}
	switch travelling.Bits {
	case 1, 2, 4, 8:
	default:
		return errors.New("a status list has 1, 2, 4 or 8 bits for each token")
	}
	packed, err := base64.RawURLEncoding.DecodeString(travelling.List)
	if err != nil {
		return fmt.Errorf("read status list: %w", err)
	}
	r, err := zlib.NewReader(bytes.NewReader(packed))
	if err != nil {
		return fmt.Errorf("unpack status list: %w", err)
	}
	statuses, err := io.ReadAll(io.LimitReader(r, maxStatusListBytes+1))
	if err != nil {
		return fmt.Errorf("unpack status list: %w", err)
	}
	if len(statuses) > maxStatusListBytes {
		return errors.New("the status list is larger than 1 MiB")
	}
	l.bits, l.statuses = travelling.Bits, statuses
	return nil
}
