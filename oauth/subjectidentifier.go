package oauth

import (
	"errors"
	"fmt"
	"strings"
)

// The formats of subject identifiers that this package reads (RFC 9493, section 3.2).
const (
	SubjectFormatEmail  = "email"
	SubjectFormatIssSub = "iss_sub"
	SubjectFormatOpaque = "opaque"
)

// ErrSubjectFormat says that a subject identifier has a format that is not read here.
var ErrSubjectFormat = errors.New("the format of the subject identifier is not supported")

// SubjectIdentifier names a person (RFC 9493, section 3). Which members it has follows from
// its format.
type SubjectIdentifier struct {
	Format string `json:"format"`
	Email  string `json:"email,omitempty"`
	ID     string `json:"id,omitempty"`
	Issuer string `json:"iss,omitempty"`
	// Subject is a sub of that issuer.
	Subject string `json:"sub,omitempty"`
}

// NewSubjectIdentifier returns the identifier with these members: those of its format and no
// others.
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
		return s, fmt.Errorf("a subject identifier of the format %s has other members", s.Format)
	}
	return s, nil
}
