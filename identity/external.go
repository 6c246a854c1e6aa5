package identity

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"
)

// ExternalUser is a user who has just authenticated at another provider or at a directory, as that
// party describes them. Packages that talk to such parties return it, and nothing else of theirs
// reaches an account.
type ExternalUser struct {
	// Provider is the ID of the provider or directory in the configuration, and Name its name on
	// pages.
	Provider, Name string
	// Issuer and Subject identify the user, for ever: the issuer identifier and the sub, or what
	// takes their place at the party. An address or a name never identifies anyone.
	Issuer, Subject string
	// Claims are what the party says about the user. They reach an account only through an
	// Admission.
	Claims map[string]any
	// NameOnce is set if the party says the name only at the first sign-in. The account keeps it then.
	NameOnce bool
	// Email is the address of the user as the party knows it; "" if it does not say. EmailTrusted is
	// set if the party has verified it, and the operator trusts it to (trust_email).
	Email        string
	EmailTrusted bool
	// AuthTime is when the user authenticated there; zero if the party does not say.
	AuthTime time.Time
	// AMR are the methods that the user authenticated with, and ACR is the class that this counts as
	// here, as far as the operator trusts the party's word for it.
	AMR []string
	ACR string
	// Session is the session at the party, if it has one.
	Session ExternalSession
}

// Format keeps what the party says about the user out of logs and messages.
func (e ExternalUser) Format(s fmt.State, _ rune) {
	fmt.Fprint(s, "[user of another provider]")
}

// LogValue keeps what the party says about the user out of structured logs.
func (e ExternalUser) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(e)) }

// Admission is what the operator's rule decides about an external user.
type Admission struct {
	// Refused keeps the user out. Reason is for the user; "" if the rule gives none.
	Refused bool
	Reason  string
	// Create creates an account for a user who has none. Username is the one that it gets, if it is
	// valid and free; otherwise it gets a similar one.
	Create   bool
	Username string
	// Claims and Groups are what the account has from this party. They are replaced at each sign-in.
	Claims map[string]any
	Groups []string
}

// ExternalLink says that an external user signs in to an account.
type ExternalLink struct {
	// ID is random and public.
	ID       string `json:"id"`
	Provider string `json:"provider"`
	Issuer   string `json:"issuer"`
	Subject  string `json:"subject"`
	// Email and Label are how the party described the user at the last sign-in. They are shown to
	// the user, and used for nothing else.
	Email string `json:"email,omitempty"`
	Label string `json:"label,omitempty"`
	// Claims and Groups are those of the last Admission.
	Claims     map[string]any `json:"claims,omitempty"`
	Groups     []string       `json:"groups,omitempty"`
	LinkedAt   time.Time      `json:"linked_at"`
	LastUsedAt time.Time      `json:"last_used_at"`
	// SuspendedAt is when the party no longer let the user in (SuspendExternal); zero if it does. The
	// next sign-in there removes it.
	SuspendedAt time.Time `json:"suspended_at,omitzero"`
}

// Limits of what an account has from other parties.
const (
	maxExternalLinks = 16
	maxExternalBytes = 256 << 10
	// MaxExternalClaimBytes limits the claims of one link as JSON.
	MaxExternalClaimBytes = 8 << 10
	maxExternalGroups     = 256
	maxGroupBytes         = 255
)

// Errors of signing in with an external user.
var (
	// ErrExternalTaken means that an external user belongs to another account.
	ErrExternalTaken = errors.New("identity: the user of the other provider is linked to another account")
	// ErrTooManyLinks means that an account has as many links as are allowed.
	ErrTooManyLinks = errors.New("identity: the account has too many links to other providers")
	// ErrNoAccount means that an external user has no account, and gets none.
	ErrNoAccount = errors.New("identity: the user of the other provider has no account")
)

// RefusedError means that the operator's rule keeps an external user out.
type RefusedError struct {
	// Reason is for the user; "" if the rule gives none.
	Reason string
}

func (e *RefusedError) Error() string {
	if e.Reason == "" {
		return "identity: the rule of the provider refuses the user"
	}
	return "identity: the rule of the provider refuses the user: " + e.Reason
}

// LinkNeededError means that there is an account with the address of an external user, who can link
// the two after signing in to the account with a method that it already has.
type LinkNeededError struct{ UserID string }

func (e *LinkNeededError) Error() string {
	return "identity: the address belongs to an account that the user must sign in to first"
}

// ExternalKey identifies an external user.
type ExternalKey struct{ Issuer, Subject string }

// ExternalKeys returns the keys of the links of a user, in a fixed order. Stores keep an index of
// them.
func (u *User) ExternalKeys() []ExternalKey {
	var keys []ExternalKey
	for _, link := range u.External {
		keys = append(keys, ExternalKey{link.Issuer, link.Subject})
	}
	slices.SortFunc(keys, func(a, b ExternalKey) int {
		return cmp.Or(cmp.Compare(a.Issuer, b.Issuer), cmp.Compare(a.Subject, b.Subject))
	})
	return keys
}

// EncodeExternal returns what stores store; "" for no links. The error is ErrTooManyLinks or an
// internal error.
func EncodeExternal(links []ExternalLink) (string, error) {
	if len(links) == 0 {
		return "", nil
	}
	encoded, err := json.Marshal(links)
	if err != nil {
		return "", fmt.Errorf("encode the links of a user: %w", err)
	}
	if len(links) > maxExternalLinks || len(encoded) > maxExternalBytes {
		return "", ErrTooManyLinks
	}
	return string(encoded), nil
}

// DecodeExternal is the reverse of EncodeExternal.
func DecodeExternal(encoded string) ([]ExternalLink, error) {
	if encoded == "" {
		return nil, nil
	}
	var links []ExternalLink
	if err := json.Unmarshal([]byte(encoded), &links); err != nil {
		return nil, fmt.Errorf("decode the links of a user: %w", err)
	}
	return links, nil
}

// externalLink returns the link of an external user; nil if the account has none.
func (u *User) externalLink(issuer, subject string) *ExternalLink {
	i := slices.IndexFunc(u.External, func(l ExternalLink) bool { return l.Issuer == issuer && l.Subject == subject })
	if i < 0 {
		return nil
	}
	return &u.External[i]
}

// AllClaims returns the claims of the account: those that the user or the operator has set, and
// others that linked parties have. The claim groups has the groups of both.
func (u *User) AllClaims() map[string]any {
	all := make(map[string]any, len(u.Claims)+1)
	for _, link := range u.External {
		for name, value := range link.Claims {
			if _, ok := all[name]; !ok {
				all[name] = value
			}
		}
	}
	maps.Copy(all, u.Claims)
	if groups := u.Groups(); len(groups) > 0 {
		all["groups"] = groups
	}
	return all
}

// Groups returns the groups of the user: those that the operator has declared, and those that the
// rules of linked parties assign, sorted and without duplicates.
func (u *User) Groups() []string {
	var groups []string
	switch own := u.Claims["groups"].(type) {
	case []any:
		for _, group := range own {
			if name, ok := group.(string); ok {
				groups = append(groups, name)
			}
		}
	case []string:
		groups = append(groups, own...)
	}
	for _, link := range u.External {
		groups = append(groups, link.Groups...)
	}
	slices.Sort(groups)
	return slices.Compact(groups)
}

func cloneLinks(links []ExternalLink) []ExternalLink {
	if links == nil {
		return nil
	}
	c := make([]ExternalLink, len(links))
	for i, link := range links {
		c[i] = link
		c[i].Groups = slices.Clone(link.Groups)
		if link.Claims != nil {
			c[i].Claims = cloneClaim(link.Claims).(map[string]any)
		}
	}
	return c
}

// ExternalSession is a session of a user at another provider.
type ExternalSession struct {
	// ID is the sid of the ID token; "" if it has none.
	ID string
	// Expires is when a session here must end at the latest; zero if the provider sets no limit.
	Expires time.Time
	// IDToken is the ID token, if it is needed to end the session there; otherwise "".
	IDToken string
}

// Format keeps the ID token out of logs and messages.
func (s ExternalSession) Format(f fmt.State, _ rune) { fmt.Fprint(f, "[session at another provider]") }

// LogValue keeps the ID token out of structured logs.
func (s ExternalSession) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(s)) }

// ValidEmailAddress reports whether an address can be that of an account.
func ValidEmailAddress(address string) bool {
	_, err := checkAddress(address)
	return err == nil
}
