package identity

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"runtime"
	"time"
)

// Config says how people sign in. The zero value of each optional field is the secure
// default.
type Config struct {
	Store Store
	// Logger receives the security events; nil means slog.Default().
	Logger *slog.Logger
	// SessionLifetime is how long a sign-in lasts; zero means 12 hours.
	SessionLifetime time.Duration
	// PasswordHashes is how many passwords are hashed at once. Zero means half of the
	// processors, at least one: a flood of sign-ins then never takes more than that from
	// those who fetch tokens, and never more memory than 19 MiB for each.
	PasswordHashes int
}

// Accounts signs people in. All methods are safe for concurrent use. The pace of attempts
// is kept in the memory of each process.
type Accounts struct {
	store           Store
	logger          *slog.Logger
	sessionLifetime time.Duration
	hashing         gate
	// decoy is the hash that is computed for those who have none.
	decoy string
	// logKey masks what unknown people typed before it is logged.
	logKey []byte

	byAccount, byStranger, byDevice, byAddress, bySignUp throttle
}

const (
	defaultSessionLifetime = 12 * time.Hour
	deviceLifetime         = 180 * 24 * time.Hour
	setupLifetime          = 24 * time.Hour

	// hashWait is how long a sign-in waits for its turn to be hashed, and hashQueue how
	// many may wait for each that is being hashed.
	hashWait  = 5 * time.Second
	hashQueue = 64
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
	}
	rand.Read(a.logKey)
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
	a.hashing = newGate(hashes, hashes*hashQueue, hashWait)

	// Nothing hashes to random bytes, and comparing with them takes as long as with any.
	decoy := argonHash{memory: argonMemory, time: argonTime, threads: argonThreads, salt: make([]byte, argonSalt), key: make([]byte, argonKey)}
	rand.Read(decoy.salt)
	rand.Read(decoy.key)
	a.decoy = decoy.String()

	for _, t := range []*throttle{&a.byAccount, &a.byStranger, &a.byDevice} {
		t.free, t.first, t.longest, t.forgive, t.capacity = 5, time.Second, 5*time.Minute, 10*time.Minute, 100_000
	}
	// Whole offices and mobile networks share an address, so it may err more often.
	t := &a.byAddress
	t.free, t.first, t.longest, t.forgive, t.capacity = 50, time.Second, 30*time.Second, 10*time.Second, 100_000
	t = &a.bySignUp
	t.free, t.first, t.longest, t.forgive, t.capacity = 20, time.Minute, time.Hour, 6*time.Minute, 100_000
	return a, nil
}

// HashPassword is the package's HashPassword in its turn; ErrBusy if that does not come
// soon.
func (a *Accounts) HashPassword(ctx context.Context, password string) (string, error) {
	if err := a.hashing.enter(ctx); err != nil {
		return "", err
	}
	defer a.hashing.leave()
	return HashPassword(password)
}

// ErrBusy says that too many sign-ins wait already. Nothing was checked; BusyRetryAfter is
// a good time to try again.
var ErrBusy = errors.New("identity: too many people are signing in at this moment")

// BusyRetryAfter goes into the Retry-After header of an answer to ErrBusy.
const BusyRetryAfter = 2 * time.Second

// gate lets a bounded number through at once and a bounded number wait for a bounded time.
type gate struct {
	permits, waiting chan struct{}
	wait             time.Duration
}

func newGate(permits, waiting int, wait time.Duration) gate {
	return gate{make(chan struct{}, permits), make(chan struct{}, permits+waiting), wait}
}

// enter waits for a permit, which the caller holds until leave, however long its own
// caller stays.
func (g *gate) enter(ctx context.Context) error {
	select {
	case g.waiting <- struct{}{}:
	default:
		return ErrBusy
	}
	timer := time.NewTimer(g.wait)
	defer timer.Stop()
	select {
	case g.permits <- struct{}{}:
		return nil
	case <-timer.C:
		<-g.waiting
		return ErrBusy
	case <-ctx.Done():
		<-g.waiting
		return ctx.Err()
	}
}

func (g *gate) leave() {
	<-g.permits
	<-g.waiting
}
