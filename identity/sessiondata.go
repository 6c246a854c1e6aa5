package identity

import (
	"encoding/json"
	"net/netip"

	"github.com/valetkey/valetkey/internal/plainjson"
)

// sessionData is the Data of a session's ticket.
type sessionData struct {
	User      string     `json:"user"`
	AuthTime  int64      `json:"auth_time"` // milliseconds
	AMR       []string   `json:"amr,omitempty"`
	ACR       string     `json:"acr,omitempty"`
	UserAgent string     `json:"user_agent,omitempty"`
	Remote    netip.Addr `json:"remote,omitzero"`
	Former    []string   `json:"former,omitempty"`
	Proofs    []string   `json:"proofs,omitempty"` // encodeProofs
	Enrolling string     `json:"enrolling,omitempty"`
	Left      []string   `json:"left,omitempty"` // AtProviders
	// SignedInAt is in milliseconds; 0 if it is AuthTime.
	SignedInAt int64 `json:"signed_in,omitempty"`
}

func decodeSession(data []byte) (d sessionData, err error) {
	if d, ok := decodePlainSession(string(data)); ok {
		return d, nil
	}
	err = json.Unmarshal(data, &d)
	return d, err
}

// decodePlainSession decodes a session in plain characters. For any other it returns false.
func decodePlainSession(data string) (d sessionData, ok bool) {
	r := plainjson.Reader{Rest: data}
	if !r.Skip('{') {
		return d, false
	}
	for !r.Failed {
		name := r.Text()
		if !r.Skip(':') {
			return d, false
		}
		switch name {
		case "user":
			d.User = r.Text()
		case "auth_time":
			d.AuthTime = r.Number()
		case "amr":
			d.AMR = r.List()
		case "acr":
			d.ACR = r.Text()
		case "user_agent":
			d.UserAgent = r.Text()
		case "remote":
			var err error
			if d.Remote, err = netip.ParseAddr(r.Text()); err != nil {
				return d, false
			}
		case "former":
			d.Former = r.List()
		case "enrolling":
			d.Enrolling = r.Text()
		case "left":
			d.Left = r.List()
		case "proofs":
			d.Proofs = r.List()
		case "signed_in":
			d.SignedInAt = r.Number()
		default:
			return d, false
		}
		if r.Skip('}') {
			return d, !r.Failed && r.Rest == ""
		}
		if !r.Skip(',') {
			return d, false
		}
	}
	return d, false
}
