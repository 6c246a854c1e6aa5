package record

import "time"

// Trace lists the checks of a request: enough to explain a refusal to the operator. It
// contains no secrets, and is never shown to outsiders.
type Trace struct {
	// Ref is the short reference on error pages and in error_description.
	Ref      string    `json:"ref"`
	Time     time.Time `json:"time"`
	Endpoint string    `json:"endpoint"` // path below the issuer
	ClientID string    `json:"client_id,omitempty"`
	// Subject is the user whom the request was about; "" if that was not known.
	Subject string `json:"sub,omitempty"`
	// RedirectURI and Scope are those of a request at the authorization endpoint; "" for others, and for
	// a value that is too long. They are as sent, so nobody has checked them.
	RedirectURI string  `json:"redirect_uri,omitempty"`
	Scope       string  `json:"scope,omitempty"`
	Checks      []Check `json:"checks"`
	// Error and Description are those of the response; "" for an accepted request.
	Error       string `json:"error,omitempty"`
	Description string `json:"error_description,omitempty"`
}

// Accepted reports whether the request was accepted.
func (t *Trace) Accepted() bool { return t.Error == "" }

// Check is one check of a request.
type Check struct {
	// Rule says what must hold, Section which section of a specification requires it.
	Rule    string `json:"rule"`
	Section string `json:"section"`
	OK      bool   `json:"ok"`
	// Detail says what was compared, or which of several accepted forms was sent. Fix says
	// what to change; it is set for a failed check only.
	Detail string `json:"detail,omitempty"`
	Fix    string `json:"fix,omitempty"`
}
