package authserver

import "time"

// Trace is the ladder of checks that a request climbed: enough to explain a refusal to
// the operator, never shown to a stranger, and without secrets.
type Trace struct {
	// Ref is the short reference that error pages and error_description carry.
	Ref      string    `json:"ref"`
	Time     time.Time `json:"time"`
	Endpoint string    `json:"endpoint"` // path below the issuer
	ClientID string    `json:"client_id,omitempty"`
	Checks   []Check   `json:"checks"`
	// Error and Description are what the client was told; "" for an accepted request.
	Error       string `json:"error,omitempty"`
	Description string `json:"error_description,omitempty"`
}

// Check is one rung.
type Check struct {
	// Rule says what must hold, Section where that is written.
	Rule    string `json:"rule"`
	Section string `json:"section"`
	OK      bool   `json:"ok"`
	// Detail says what was compared, or which of several accepted forms was sent. Mend says
	// what to change; for a failed check only.
	Detail string `json:"detail,omitempty"`
	Mend   string `json:"mend,omitempty"`
}
