package identity

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/mail"
	"github.com/valetkey/valetkey/storage"
)

// A mailed proof shows that a person receives messages at an address. One message has a link and
// a code. The link contains a secret of 256 bits, and the code is derived from it, so the store
// knows neither. The code is only of use together with a second secret, in the cookie of the
// browser that asked for the message, or together with the link. So the right to guess a code
// belongs to that browser alone, and the number of guesses is bounded for each request.

// Purpose is what a proof is for.
type Purpose string

// The purposes of proofs.
const (
	PurposeEmail  Purpose = "email"   // the address of an account
	PurposeReset  Purpose = "reset"   // a new password
	PurposeSignUp Purpose = "sign_up" // a new account with a verified address
	// The links of these messages have no code.
	purposeInvitation Purpose = "invitation"
	purposeUndo       Purpose = "undo"
	purposeRecovery   Purpose = "recovery" // of an account by an operator
)

const (
	// codeDigits is the length of a code, codes their number.
	codeDigits = 8
	codes      = 100_000_000
	// maxCodeAttempts is how many codes can be tried for one request.
	maxCodeAttempts = 5
	// The lifetimes of proofs. resetLifetime is longer than resetPace.Every.
	resetLifetime      = time.Hour
	emailLifetime      = 24 * time.Hour
	signUpLifetime     = 2 * time.Hour
	undoLifetime       = 7 * 24 * time.Hour
	InvitationLifetime = 7 * 24 * time.Hour
)

// Errors of proofs.
var (
	// ErrProofOver means that a link or request is unknown, has been used or has expired, or that
	// too many wrong codes were entered.
	ErrProofOver = errors.New("identity: the link or code is no longer valid")
	ErrWrongCode = errors.New("identity: wrong code")
	// ErrNoMail means that the server cannot send messages.
	ErrNoMail = errors.New("identity: no messages can be sent")
)

// proofData is the Data of a proof's ticket.
type proofData struct {
	Purpose Purpose `json:"purpose"`
	// User is the sub of the account; "" if there is none.
	User  string `json:"user,omitempty"`
	Email string `json:"email,omitempty"`
	// Browser is the hash of the secret of the browser that asked.
	Browser []byte `json:"browser,omitempty"`
	// Password is a hash of the PasswordHash that the user had.
	Password []byte `json:"password,omitempty"`
	Created  int64  `json:"created"` // milliseconds
	// Mailed is set if the link was sent only to Email.
	Mailed bool `json:"mailed,omitempty"`
	// Added is the ID of an authenticator that a change has added, Removed one that it has removed.
	Added   string         `json:"added,omitempty"`
	Removed *Authenticator `json:"removed,omitempty"`
	// Linked is the ID of a link to another provider that a change has added, Unlinked one that it has
	// removed, without its claims and groups.
	Linked   string        `json:"linked,omitempty"`
	Unlinked *ExternalLink `json:"unlinked,omitempty"`
	// Recovery is the ID of a MailRecovery.
	Recovery string `json:"recovery,omitempty"`
}

// requestData is the Data of the ticket by which the browser that asked finds the proof.
type requestData struct {
	Proof []byte `json:"proof"` // the ID of the proof's ticket
	Code  []byte `json:"code"`  // a hash
}

// Proof is an open proof.
type Proof struct {
	// User is the sub of the account; "" if there is none.
	User string
	// Email is the address that the message was sent to.
	Email string
	// SameBrowser is set if this browser asked for the message. In another browser, Code is the
	// code from the message.
	SameBrowser bool
	Code        string

	key  storage.Key
	data proofData
}

// Format keeps the code and the address out of logs and messages.
func (p Proof) Format(s fmt.State, _ rune) { fmt.Fprint(s, "[proof]") }

// LogValue keeps the code and the address out of structured logs.
func (p Proof) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(p)) }

// NewBrowserSecret returns a secret for SetBrowserCookie.
func NewBrowserSecret() string { return newSecret() }

// pendingProof is a proof that is not stored yet.
type pendingProof struct {
	// token is the secret of the link, request the public name for the browser that asked.
	token, request string
	tickets        []storage.Ticket
}

// newProof returns a proof and the tickets to store. browser is the secret of the browser that
// asks; "" if the link has no code.
func newProof(now time.Time, data proofData, browser, family string, lifetime time.Duration) (*pendingProof, error) {
	p := &pendingProof{token: newSecret(), request: storage.NewID()}
	data.Created = now.UnixMilli()
	if browser != "" {
		data.Browser = hashOf("browser", browser)
	}
	key := ticketkind.MailedProof.Hash(p.token)
	encoded, err := json.Marshal(data)
	if err != nil {
		return nil, fmt.Errorf("encode a proof: %w", err)
	}
	expires := now.Add(lifetime)
	p.tickets = []storage.Ticket{{Key: key, Family: family, Data: encoded, Expires: expires}}
	if browser == "" {
		return p, nil
	}
	encoded, err = json.Marshal(requestData{Proof: key.ID[:], Code: p.codeHash(browser)})
	if err != nil {
		return nil, fmt.Errorf("encode a request: %w", err)
	}
	p.tickets = append(p.tickets, storage.Ticket{Key: requestKey(browser, p.request), Family: family, Data: encoded, Expires: expires})
	return p, nil
}

func (p *pendingProof) codeHash(browser string) []byte {
	return hashOf("code", browser, p.request, codeOf(p.token))
}

func requestKey(browser, request string) storage.Key {
	return ticketkind.MailRequest.Hash(browser + "\x00" + request)
}

// codeOf derives the code from the secret of the link.
func codeOf(token string) string {
	mac := hmac.New(sha256.New, []byte(token))
	mac.Write([]byte("valetkey mailed code"))
	return fmt.Sprintf("%0*d", codeDigits, binary.BigEndian.Uint64(mac.Sum(nil))%codes)
}

// hashOf returns a hash of its arguments. The first one separates purposes.
func hashOf(parts ...string) []byte {
	h := sha256.New()
	for _, part := range parts {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return h.Sum(nil)
}

// typedCode returns a code as it was typed, without spaces and hyphens.
func typedCode(s string) string {
	if len(s) > 64 {
		return ""
	}
	return strings.NewReplacer(" ", "", "-", "", "\u00a0", "").Replace(s)
}

// ProofByLink returns the proof of a link. It changes nothing, so programs that fetch links do no
// harm. browser is the result of BrowserCookie. The error is ErrProofOver or an internal error.
func (a *Accounts) ProofByLink(ctx context.Context, now time.Time, purpose Purpose, token, browser string) (*Proof, error) {
	p, err := a.proof(ctx, now, purpose, ticketkind.MailedProof.Hash(token))
	if err != nil {
		return nil, err
	}
	p.SameBrowser = browser != "" && subtle.ConstantTimeCompare(p.data.Browser, hashOf("browser", browser)) == 1
	if len(p.data.Browser) > 0 {
		p.Code = codeOf(token)
	}
	return p, nil
}

func (a *Accounts) proof(ctx context.Context, now time.Time, purpose Purpose, key storage.Key) (*Proof, error) {
	ticket, err := a.store.Get(ctx, now, key)
	if errors.Is(err, storage.ErrNotFound) || err == nil && !ticket.Spent.IsZero() {
		return nil, ErrProofOver
	}
	if err != nil {
		return nil, fmt.Errorf("find a proof: %w", err)
	}
	p := &Proof{key: key}
	if err := json.Unmarshal(ticket.Data, &p.data); err != nil {
		return nil, fmt.Errorf("decode a proof: %w", err)
	}
	if p.data.Purpose != purpose {
		return nil, ErrProofOver
	}
	p.User, p.Email = p.data.User, p.data.Email
	return p, nil
}

// ProofByCode returns the proof of a request for the browser that asked. The error is ErrWrongCode,
// ErrProofOver or an internal error.
func (a *Accounts) ProofByCode(ctx context.Context, now time.Time, purpose Purpose, browser, request, code string) (*Proof, error) {
	if browser == "" {
		return nil, ErrProofOver
	}
	key := requestKey(browser, request)
	ticket, err := a.store.Get(ctx, now, key)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, ErrProofOver
	}
	if err != nil {
		return nil, fmt.Errorf("find a request for a message: %w", err)
	}
	var data requestData
	if err := json.Unmarshal(ticket.Data, &data); err != nil {
		return nil, fmt.Errorf("decode a request for a message: %w", err)
	}
	if err := a.takeAttempt(ctx, now, key, ticket); err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(data.Code, hashOf("code", browser, request, typedCode(code))) != 1 {
		return nil, ErrWrongCode
	}
	proof := storage.Key{Kind: ticketkind.MailedProof}
	copy(proof.ID[:], data.Proof)
	p, err := a.proof(ctx, now, purpose, proof)
	if err != nil {
		return nil, err
	}
	p.SameBrowser = true
	return p, nil
}

// CheckCode compares a code with that of a proof that was found by its link, in a browser that did
// not ask. The error is ErrWrongCode, ErrProofOver or an internal error.
func (a *Accounts) CheckCode(ctx context.Context, now time.Time, p *Proof, code string) error {
	ticket, err := a.store.Get(ctx, now, p.key)
	if errors.Is(err, storage.ErrNotFound) {
		return ErrProofOver
	}
	if err != nil {
		return fmt.Errorf("find a proof: %w", err)
	}
	if err := a.takeAttempt(ctx, now, p.key, ticket); err != nil {
		return err
	}
	if p.Code == "" || subtle.ConstantTimeCompare([]byte(p.Code), []byte(typedCode(code))) != 1 {
		return ErrWrongCode
	}
	return nil
}

// takeAttempt counts an attempt before the code is compared, so that parallel attempts cannot
// exceed the limit: of any number of callers that put the same ticket, one succeeds.
func (a *Accounts) takeAttempt(ctx context.Context, now time.Time, key storage.Key, ticket storage.Ticket) error {
	for i := range maxCodeAttempts {
		attempt := ticketkind.MailedCodeAttempt.Hash(string(key.Kind) + base64.RawURLEncoding.EncodeToString(key.ID[:]) + strconv.Itoa(i))
		err := a.store.Put(ctx, now, storage.Ticket{Key: attempt, Family: ticket.Family, Expires: ticket.Expires})
		if err == nil {
			return nil
		}
		if !errors.Is(err, storage.ErrExists) {
			return fmt.Errorf("count an attempt: %w", err)
		}
	}
	return ErrProofOver
}

// spend makes a proof unusable.
//
// Where a proof changes a record, the record is changed first, and the change checks whether it still
// applies: a crash in between leaves a proof that does nothing new. A proof that signs in is spent first.
// Of several callers, one succeeds; the others get ErrProofOver.
func (a *Accounts) spend(ctx context.Context, now time.Time, p *Proof) error {
	err := a.store.Spend(ctx, now, []storage.Key{p.key})
	if errors.Is(err, storage.ErrSpent) || errors.Is(err, storage.ErrNotFound) {
		return ErrProofOver
	}
	if err != nil {
		return fmt.Errorf("spend a proof: %w", err)
	}
	return nil
}

// CanMail reports whether messages can be sent.
func (a *Accounts) CanMail() bool { return a.mail != nil }

// notify sends a notice to the verified address of a user, if there is one. A failure is logged:
// what the notice is about has happened already.
func (a *Accounts) notify(ctx context.Context, now time.Time, user *User, m mail.Message) {
	if a.mail == nil || !user.EmailVerified() || !mail.Deliverable(user.Email()) {
		return
	}
	m.To, m.Subject, m.Username, m.Language = user.Email(), user.ID, user.Username, cmp.Or(user.locale(), m.Language)
	if err := a.mail.Send(ctx, now, m); err != nil && !errors.Is(err, mail.ErrTooManyWaiting) {
		a.logger.Log(ctx, event.LevelOf(ctx, err), "notice to a user not sent", "user", user.ID, "error", err)
	}
}

// EmailVerified reports whether the user has a verified email address.
func (u *User) EmailVerified() bool {
	verified, _ := u.Claims["email_verified"].(bool)
	return verified && u.Email() != ""
}

func (u *User) locale() string {
	locale, _ := u.Claims["locale"].(string)
	return locale
}

// Activity says from where a user did something. It is part of notices.
type Activity struct {
	// Browser is a short name for the browser, Remote its address.
	Browser, Remote string
	// Language is that of the page, for users who have not chosen one.
	Language string
}

func (m Activity) message(kind mail.Kind, now time.Time) mail.Message {
	return mail.Message{Kind: kind, Language: m.Language, Browser: m.Browser, Remote: m.Remote, At: now}
}
