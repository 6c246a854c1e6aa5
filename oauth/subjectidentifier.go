package oauth

import (
	"errors"
	"fmt"
	"strings"
)

// The supported formats of subject identifiers (RFC 9493, section 3.2).
const (
	SubjectFormatEmail  = "email"
	SubjectFormatIssSub = "iss_sub"
	SubjectFormatOpaque = "opaque"
)

// ErrSubjectFormat is returned for a subject identifier whose format is not supported.
var ErrSubjectFormat = errors.New("the format of the subject identifier is not supported")

// SubjectIdentifier identifies a user (RFC 9493, section 3). Its format determines which
// members it has.
type SubjectIdentifier struct {
	Format string `json:"format"`
	Email  string `json:"email,omitempty"`
	ID     string `json:"id,omitempty"`
	Issuer string `json:"iss,omitempty"`
	// Subject is a sub of Issuer.
	Subject string `json:"sub,omitempty"`
}

// NewSubjectIdentifier returns the identifier with the given members, which must be exactly
// those of its format.
func NewSubjectIdentifier(members map[string]string) (SubjectIdentifier, error) {
	s := SubjectIdentifier{
		Format: members["format"], Email: members["email"], ID: members["id"], Issuer: members["iss"], Subject: members["sub"],
	}
	known, complete := 2, false
	switch s.Format {
	case SubjectFormatEmail:
		complete = strings.Contains(s.Email, "@")
	case SubjectFormatOpaque:
		complete = s.ID != ""
	case SubjectFormatIssSub:
		known, complete = 3, s.Issuer != "" && s.Subject != ""
	default:
		return s, ErrSubjectFormat
	}
	if !complete || len(members) != known {
		return s, fmt.Errorf("the members of the subject identifier are not those of the format %s", s.Format)
	}
	return s, nil
}
