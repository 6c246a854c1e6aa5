package configuration

import (
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/storage/record"
)

// Recovery says how users get back in who have lost what they sign in with.
type Recovery struct {
	// RecoveryCode is whether a message and a recovery code let a user in: RecoveryOn, the default, or
	// RecoveryOff.
	RecoveryCode string `json:"recovery_code,omitempty"`
	// MailDelay is how long a recovery by mail alone takes. Zero, the default: there is none.
	MailDelay record.Duration `json:"mail_delay,omitzero"`
	// OperatorLink is whether operators can create links for all users: RecoveryOn, the default, or
	// RecoveryOff, with which they can for the last administrator only.
	OperatorLink string `json:"operator_link,omitempty"`
}

// The values of Recovery.RecoveryCode and Recovery.OperatorLink.
const (
	RecoveryOn  = "on"
	RecoveryOff = "off"
)

// The limits of Recovery.MailDelay: time enough to read a message, and less than messages wait.
const (
	minMailDelay = 24 * time.Hour
	maxMailDelay = 30 * 24 * time.Hour
)

func (r *Recovery) validate(report reporter) {
	oneOf(report, "recovery.recovery_code", r.RecoveryCode, RecoveryOn, RecoveryOff)
	oneOf(report, "recovery.operator_link", r.OperatorLink, RecoveryOn, RecoveryOff)
	if d := time.Duration(r.MailDelay); d != 0 && (d < minMailDelay || d > maxMailDelay) {
		report("recovery.mail_delay", "must be between 24h and 720h (30 days), or 0s for none")
	}
}

// Ways returns the ways for package identity.
func (r *Recovery) Ways() identity.Recovery {
	return identity.Recovery{
		NoRecoveryCode: r.RecoveryCode == RecoveryOff, MailDelay: time.Duration(r.MailDelay), NoOperatorLink: r.OperatorLink == RecoveryOff,
	}
}
