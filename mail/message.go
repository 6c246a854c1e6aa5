package mail

import (
	"fmt"
	"log/slog"
	"time"
)

// Kind is a kind of message. It determines the text.
type Kind string

// The kinds of messages.
const (
	// KindVerify proves that the user of an account receives messages at an address.
	KindVerify Kind = "verify"
	// KindAddressInUse is sent instead of KindVerify or KindSignUp if the address belongs to
	// another account, so that only its owner is told.
	KindAddressInUse Kind = "address-in-use"
	// KindSignUp proves an address before there is an account.
	KindSignUp Kind = "sign-up"
	// KindInvitation invites a person to create an account.
	KindInvitation Kind = "invitation"
	// KindReset lets a user choose a new password.
	KindReset Kind = "reset"
	// The following are notices.
	KindPasswordChanged Kind = "password-changed"
	KindPasswordRemoved Kind = "password-removed"
	KindUserCodeChanged Kind = "user-code-changed"
	KindAddressChanged  Kind = "address-changed"
	KindNewSignIn       Kind = "new-sign-in"
	KindMethodAdded     Kind = "method-added"
	KindMethodRemoved   Kind = "method-removed"
	KindRecovered       Kind = "recovered"
	// KindRecovery lets a user begin a recovery by mail, KindRecoveryReady completes it, and the others are
	// notices about it.
	KindRecovery        Kind = "recovery"
	KindRecoveryBegun   Kind = "recovery-begun"
	KindRecoveryStopped Kind = "recovery-stopped"
	KindRecoveryReady   Kind = "recovery-ready"
	KindRecoveredByMail Kind = "recovered-by-mail"
	// KindRecoveryCodeUsed and KindRecoveryCodesLow are notices of a sign-in with a recovery code.
	KindRecoveryCodeUsed Kind = "recovery-code-used"
	KindRecoveryCodesLow Kind = "recovery-codes-low"
	// KindSignIn signs a user in.
	KindSignIn Kind = "sign-in"
	// KindIdentifierTaken tells a user that the operator gave their username or address to another
	// account.
	KindIdentifierTaken Kind = "identifier-taken"
	// The following are notices. Address is the new username in the first one. KindLockedDownFormer is
	// for an address that the account had a short time ago.
	KindUsernameChanged   Kind = "username-changed"
	KindLockedDown        Kind = "locked-down"
	KindLockedDownFormer  Kind = "locked-down-former"
	KindDeletionRequested Kind = "deletion-requested"
	KindDeletionCanceled  Kind = "deletion-canceled"
	KindDeleted           Kind = "deleted"
	// KindTest is sent by an operator.
	KindTest Kind = "test"
)

// kinds are all kinds of messages.
var kinds = []Kind{KindVerify, KindAddressInUse, KindSignUp, KindInvitation, KindReset, KindPasswordChanged, KindPasswordRemoved, KindUserCodeChanged, KindAddressChanged, KindNewSignIn, KindMethodAdded, KindMethodRemoved, KindRecovered, KindRecovery, KindRecoveryBegun, KindRecoveryStopped, KindRecoveryReady, KindRecoveredByMail, KindRecoveryCodeUsed, KindRecoveryCodesLow, KindSignIn,
	KindIdentifierTaken, KindUsernameChanged, KindLockedDown, KindLockedDownFormer, KindDeletionRequested, KindDeletionCanceled, KindDeleted, KindTest}

// Message is a message to one user.
type Message struct {
	Kind Kind `json:"kind"`
	// To is an address of ParseAddress. A message without one is stored like any other and then
	// dropped, so that a request does the same work whether or not there is a recipient.
	To string `json:"to,omitempty"`
	// Subject is the sub of the user, for the log.
	Subject string `json:"sub,omitempty"`
	// Language is the user's preferred language, a BCP 47 tag; "" if it is unknown.
	Language string `json:"language,omitempty"`
	// Username is the user's own name. It is empty if the address is not verified: a stranger
	// could have chosen the name to send words of their own to the owner of the address.
	Username string `json:"username,omitempty"`
	// Code and Path prove that the user received the message. Path is a path with a query, below
	// the issuer.
	Code string `json:"code,omitempty"`
	Path string `json:"path,omitempty"`
	// Lifetime is how long they are valid.
	Lifetime time.Duration `json:"lifetime,omitempty"`
	// Address is an address that the text mentions.
	Address string `json:"address,omitempty"`
	// Count is a number that the text mentions.
	Count int `json:"count,omitempty"`
	// Method is a way to sign in that the text mentions: an identity.Method.
	Method string `json:"method,omitempty"`
	// Browser, Remote and At say what the user did, from where, and when.
	Browser string    `json:"browser,omitempty"`
	Remote  string    `json:"remote,omitempty"`
	At      time.Time `json:"at,omitzero"`
	// Expires is when the message is not sent any more.
	Expires time.Time `json:"expires"`
	// Notice is set by Send if the message had no Expires of its own. Then it is tried for
	// noticeLifetime again when an operator puts it back into the outbox.
	Notice bool `json:"notice,omitempty"`
}

// until returns when a message that was enqueued at a time is not sent any more.
func (m *Message) until(enqueued time.Time) time.Time {
	if m.Notice {
		return enqueued.Add(noticeLifetime)
	}
	return m.Expires
}

// Messages contain codes and personal data, which are not shown when a value is printed or
// logged.

// Format keeps the code, the link and the address out of logs and messages.
func (m Message) Format(s fmt.State, _ rune) { fmt.Fprint(s, "[message]") }

// LogValue keeps the code, the link and the address out of structured logs.
func (m Message) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(m)) }

// Letter is a message in the form in which it is delivered.
type Letter struct {
	// ID is the same each time that a message is delivered.
	ID string
	// From has a display name, and To has not. Their domains are in ASCII.
	From, To      string
	Subject       string
	Text, HTML    string
	Date          time.Time
	kind, subject string // for the log
}

// Format keeps the content and the address out of logs and messages.
func (l Letter) Format(s fmt.State, _ rune) { fmt.Fprint(s, "[letter]") }

// LogValue keeps the content and the address out of structured logs.
func (l Letter) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(l)) }
