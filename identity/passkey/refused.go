package passkey

import "fmt"

// Reason is why a response was refused, for the log.
type Reason string

// The reasons.
const (
	ReasonMalformed        Reason = "malformed_response"
	ReasonChallenge        Reason = "wrong_challenge" // also one of another browser, user or purpose
	ReasonExpired          Reason = "expired_challenge"
	ReasonReplayed         Reason = "replayed_challenge"
	ReasonOrigin           Reason = "wrong_origin"
	ReasonCrossOrigin      Reason = "cross_origin"
	ReasonRPID             Reason = "wrong_rp_id"
	ReasonUserPresence     Reason = "no_user_presence"
	ReasonUserVerification Reason = "no_user_verification"
	ReasonBackupFlags      Reason = "wrong_backup_flags"
	ReasonUser             Reason = "wrong_user"
	ReasonUnknown          Reason = "unknown_passkey"
	ReasonSignature        Reason = "wrong_signature"
	ReasonSignCount        Reason = "sign_count"
	ReasonInactive         Reason = "inactive_user" // disabled or retired
	ReasonAlgorithm        Reason = "unsupported_algorithm"
	ReasonAttestation      Reason = "attestation"
	ReasonModel            Reason = "model_not_allowed"
)

// RefusedError means that a response of a browser was not accepted. It is not an internal error.
type RefusedError struct {
	Reason Reason
	// Err is what the reason follows from; nil if there is nothing more to say.
	Err error
}

func (e *RefusedError) Error() string {
	if e.Err == nil {
		return "passkey: refused: " + string(e.Reason)
	}
	return fmt.Sprintf("passkey: refused: %s: %v", e.Reason, e.Err)
}

func (e *RefusedError) Unwrap() error { return e.Err }

func refuse(reason Reason, err error) error { return &RefusedError{Reason: reason, Err: err} }
