package identity

import (
	"cmp"
	"context"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"log/slog"
	"runtime"
	"time"

	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/internal/lastuse"
	"github.com/valetkey/valetkey/mail"
)

// Config configures sign-in. The zero value of each optional field is the secure default.
type Config struct {
	Store Store
	// Logger receives the security events; nil means slog.Default().
	Logger *slog.Logger
	// SessionLifetime is how long a sign-in lasts; zero means 12 hours.
	SessionLifetime time.Duration
	// PasswordHashes is how many passwords are hashed at once. Zero means half of the
	// processors, at least one: many sign-ins then leave the rest to token requests, and need
	// at most 19 MiB each. In addition, half as many, at least one, are reserved for devices
	// that are known to the account.
	PasswordHashes int
	// Secret is the key that hides the identifiers of unknown accounts in the counts of failed
	// attempts, and that seals the secrets of authenticators. All nodes need the same one, for as long
	// as there are authenticators. If it is nil, each process has its own.
	Secret []byte
	// Mail sends messages to users; nil if that is not possible. Pages are the links in them.
	Mail  *mail.Outbox
	Pages Pages
	// MinPasswordRunes is the minimum length of a new password of a user without a second factor. Zero
	// means MinPasswordRunesAlone.
	MinPasswordRunes int
	// Policy says what is sufficient to sign in.
	Policy Policy
	// NoPasswords is set if users cannot sign in with a password, and NoPasskeys if not with a passkey.
	// Provider reports whether there is a provider with an ID; nil means that all are there. The last way
	// to sign in cannot be removed.
	NoPasswords, NoPasskeys bool
	Provider                func(id string) bool
	// Recovery says how users get back in who have lost what they sign in with.
	Recovery Recovery
	// BreachedPasswords asks a service whether a password is known from a breach; nil if there is
	// none. It limits its own time.
	BreachedPasswords func(ctx context.Context, password string) (bool, error)
}

// Pages are the paths of pages that messages link to, below the issuer.
type Pages struct {
	SignIn, Account, Forgot string
	// The functions return the path and query of a page: Undo of the one that undoes a change, Recover of
	// the one that completes a recovery, and StopRecovery of the one that stops it.
	Undo, Recover, StopRecovery func(token string) string
}

// Accounts authenticates users and keeps their sessions. All methods are safe for concurrent
// use.
type Accounts struct {
	store           Store
	logger          *slog.Logger
	events          *event.Log
	sessionLifetime time.Duration
	limits          limits
	uses            *lastuse.Recorder
	mail            *mail.Outbox
	pages           Pages
	minPassword     int
	policy          Policy
	recovery        Recovery
	noPasswords     bool
	noPasskeys      bool
	provider        func(id string) bool
	breached        func(ctx context.Context, password string) (bool, error)
	// reserved is for devices that are known to the account and for signed-in users, hashing
	// for everyone else.
	hashing, reserved *hashTurns
	// verify is VerifyPassword, except in tests.
	verify func(hash, password string) bool
	// logKey masks identifiers of unknown accounts in the log, countKey in the counts.
	logKey, countKey []byte
	// sealer seals secrets of authenticators, macKey hashes recovery codes.
	sealer cipher.AEAD
	macKey []byte
}

const (
	defaultSessionLifetime = 12 * time.Hour
	deviceLifetime         = 180 * 24 * time.Hour
	setupLifetime          = 24 * time.Hour
)

// New returns the accounts of a store.
func New(config Config) (*Accounts, error) {
	if config.Store == nil {
		return nil, errors.New("identity: Config.Store is missing")
	}
	a := &Accounts{
		store:           config.Store,
		logger:          config.Logger,
		sessionLifetime: config.SessionLifetime,
		logKey:          make([]byte, 32),
		countKey:        config.Secret,
		verify:          VerifyPassword,
		mail:            config.Mail,
		pages:           config.Pages,
		policy:          config.Policy,
		recovery:        config.Recovery,
		noPasswords:     config.NoPasswords,
		noPasskeys:      config.NoPasskeys,
		provider:        config.Provider,
		breached:        config.BreachedPasswords,
		minPassword:     cmp.Or(config.MinPasswordRunes, MinPasswordRunesAlone),
	}
	rand.Read(a.logKey)
	for _, page := range []*func(string) string{&a.pages.Undo, &a.pages.Recover, &a.pages.StopRecovery} {
		if *page == nil {
			*page = func(string) string { return "" }
		}
	}
	if len(a.countKey) == 0 {
		a.countKey = a.logKey
	}
	if a.logger == nil {
		a.logger = slog.Default()
	}
	if a.sessionLifetime <= 0 {
		a.sessionLifetime = defaultSessionLifetime
	}
	hashes := config.PasswordHashes
	if hashes <= 0 {
		hashes = max(1, runtime.GOMAXPROCS(0)/2)
	}
	var err error
	if a.sealer, a.macKey, err = newSealer(a.countKey); err != nil {
		return nil, err
	}
	a.events = event.New(a.logger)
	a.hashing, a.reserved = newHashTurns(hashes), newHashTurns(max(1, hashes/2))
	a.events.Telemetry().OnCollect(a.measure)
	a.limits = newLimits(config.Store, a.logger)
	a.uses = lastuse.New(config.Store, a.logger)
	return a, nil
}

// measure sets the gauges of password hashes.
func (a *Accounts) measure(context.Context) {
	for queue, turns := range map[string]*hashTurns{"shared": a.hashing, "reserved": a.reserved} {
		running, waiting := turns.counts()
		a.events.Telemetry().Hashes(queue, running, waiting)
	}
}

// HashPassword is like the package's function of that name, but waits for one of the turns that
// are reserved for known users. It returns ErrBusy if the wait is too long.
func (a *Accounts) HashPassword(ctx context.Context, password string) (string, error) {
	return hashInTurn(ctx, a.reserved, "", password)
}

func hashInTurn(ctx context.Context, turns *hashTurns, owner, password string) (string, error) {
	if err := turns.enter(ctx, owner); err != nil {
		return "", err
	}
	defer turns.leave()
	return HashPassword(password)
}
