package directory

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/identity/admission"
	"github.com/valetkey/valetkey/internal/ratelimit"
	"github.com/valetkey/valetkey/storage"
)

// Options are what all directories have in common.
type Options struct {
	// Counts shares the limits of wrong passwords among nodes.
	Counts storage.Counts
	Logger *slog.Logger
	// OnAvailability is called when a directory stops or starts to respond, with the number of those
	// that do not; nil if nobody wants to know.
	OnAvailability func(unavailable int)
}

// Directories are the directories of a server. It is safe for concurrent use. A nil value has none.
type Directories struct {
	options Options
	list    []*Directory
}

// Directory is one of them.
type Directory struct {
	config      Config
	all         *Directories
	log         *slog.Logger
	rule        admission.Rule
	authorities *x509.CertPool
	password    string
	servers     []server
	lastGood    atomic.Int32
	timeout     time.Duration
	available   availability
	failures    *ratelimit.Limiter
	// searches has connections of the service account, binds those on which passwords are checked.
	searches, binds *pool
	trace           *Trace
}

// New returns directories. It reads the files that the configuration names, and connects to nothing.
func New(directories []Config, options Options) (*Directories, error) {
	if options.Logger == nil {
		options.Logger = slog.Default()
	}
	all := &Directories{options: options}
	var problems []error
	CheckAll(directories, func(i int, err error) { problems = append(problems, fmt.Errorf("directories[%d]: %w", i, err)) })
	for i, c := range directories {
		d, err := all.newDirectory(c.complete())
		if err != nil {
			problems = append(problems, fmt.Errorf("directories[%d]: %w", i, err))
			continue
		}
		all.list = append(all.list, d)
	}
	return all, errors.Join(problems...)
}

func (all *Directories) newDirectory(c Config) (d *Directory, err error) {
	d = &Directory{config: c, all: all, log: all.options.Logger, servers: c.servers(), timeout: time.Duration(c.Timeout)}
	if d.password, err = c.password(); err != nil {
		return nil, err
	}
	if d.authorities, err = c.authorities(); err != nil {
		return nil, err
	}
	if d.rule, err = admission.Compile(c.Rule); err != nil {
		return nil, fmt.Errorf("rule: %w", err)
	}
	d.failures = ratelimit.New(ratelimit.Config{
		Name: "passwords for the directory " + c.ID, Counts: all.options.Counts, Logger: all.options.Logger,
		// At most FailedAttempts within any window: one comes back in each.
		Limit: ratelimit.Limit{Burst: max(1, c.FailedAttempts-1), Every: time.Duration(c.FailedAttemptsWindow)},
	})
	d.searches = newPool(c.Connections, d.openService)
	d.binds = newPool(c.Connections, d.connect)
	return d, nil
}

// Close stores pending counts and closes connections.
func (all *Directories) Close() {
	if all == nil {
		return
	}
	for _, d := range all.list {
		d.failures.Close()
		d.searches.close()
		d.binds.close()
	}
}

// ID returns the ID of the directory.
func (d *Directory) ID() string { return d.config.ID }

// Name returns the name of the directory on pages.
func (d *Directory) Name() string { return d.config.Name }

// Decide applies the operator's rule (identity.ExternalSignIn.Decide).
func (d *Directory) Decide(user *identity.ExternalUser, newUser bool) (identity.Admission, error) {
	return d.rule.Decide(user, newUser)
}

// Active returns the directories that are not disabled.
func (all *Directories) Active() []*Directory {
	if all == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(all.list), func(d *Directory) bool { return d.config.Disabled })
}

// Directory returns an active directory by ID; nil if there is none.
func (all *Directories) Directory(id string) *Directory {
	for _, d := range all.Active() {
		if d.config.ID == id {
			return d
		}
	}
	return nil
}

// ForIdentifier returns the directories that an identifier belongs to, in the order in which they are
// asked. only is set if its domain is that of a directory: it then belongs to no local account.
func (all *Directories) ForIdentifier(identifier string) (list []*Directory, only bool) {
	_, domain := split(identifier)
	for _, d := range all.Active() {
		if domain != "" && d.hasDomain(domain) {
			return []*Directory{d}, true
		}
		if len(d.config.Domains) == 0 {
			list = append(list, d)
		}
	}
	return list, false
}

func (d *Directory) hasDomain(domain string) bool {
	return slices.ContainsFunc(d.config.Domains, func(own string) bool { return strings.EqualFold(own, domain) })
}

// split returns the parts of user@example.com and EXAMPLE\user; the domain is "" if there is none.
func split(identifier string) (username, domain string) {
	identifier = strings.TrimSpace(identifier)
	if domain, username, found := strings.Cut(identifier, `\`); found {
		return username, domain
	}
	if at := strings.LastIndexByte(identifier, '@'); at >= 0 {
		return identifier[:at], identifier[at+1:]
	}
	return identifier, ""
}

const maxIdentifierBytes = 254

// names returns what takes the place of {username} and {identifier}. ok is false for what cannot be the
// name of a user. The domain is only cut off if it is one of this directory.
func (d *Directory) names(identifier string) (username, whole string, ok bool) {
	whole = strings.TrimSpace(identifier)
	if whole == "" || len(whole) > maxIdentifierBytes || !utf8.ValidString(whole) || strings.ContainsFunc(whole, func(r rune) bool { return unicode.Is(unicode.C, r) }) {
		return "", "", false
	}
	username, domain := split(whole)
	if domain == "" || !d.hasDomain(domain) {
		username = whole
	}
	return username, whole, username != ""
}

// Users returns, for each of some directories, the user that an identifier names there
// (identity.Attempt.Directories). Directories that do not have the user are in the list too, so that
// limits and time do not tell.
func Users(list []*Directory, identifier string) func(context.Context) []identity.DirectoryUser {
	if len(list) == 0 {
		return nil
	}
	return func(ctx context.Context) []identity.DirectoryUser {
		var users []identity.DirectoryUser
		for _, d := range list {
			users = append(users, d.user(ctx, identifier))
		}
		return users
	}
}

// user returns the user that an identifier names in the directory.
func (d *Directory) user(ctx context.Context, identifier string) identity.DirectoryUser {
	username, whole, ok := d.names(identifier)
	if !ok {
		return d.absent(identifier)
	}
	if !d.config.service() {
		account, err := identity.DirectoryAccount(username)
		if err != nil { // the directory could take it for another name, with limits of its own
			return d.absent(identifier)
		}
		return d.present(&entry{bindName: d.bindName(username), username: username, identifier: whole}, account)
	}
	found, err := d.find(ctx, fill(d.config.UserFilter, username, whole, escapeFilter))
	return d.result(found, err, username)
}

// Again returns the user of a link, for another proof of the password. username is a hint for
// directories in which only users themselves can search.
func (d *Directory) Again(ctx context.Context, subject, username string) identity.DirectoryUser {
	if !d.config.service() {
		user := d.user(ctx, username)
		user.Subject = subject
		verify := user.Verify
		user.Verify = func(ctx context.Context, password string) (identity.ExternalSignIn, error) {
			signIn, err := verify(ctx, password)
			if err == nil && signIn.User.Subject != subject {
				return identity.ExternalSignIn{}, identity.ErrWrongCredentials
			}
			return signIn, err
		}
		return user
	}
	found, err := d.find(ctx, d.subjectFilter(subject))
	return d.result(found, err, username)
}

func (d *Directory) result(found *entry, err error, username string) identity.DirectoryUser {
	switch {
	case err != nil:
		user := d.absent(username)
		user.Verify = func(context.Context, string) (identity.ExternalSignIn, error) {
			if errors.Is(err, ErrUnavailable) {
				return identity.ExternalSignIn{}, identity.ErrDirectoryUnavailable
			}
			return identity.ExternalSignIn{}, err
		}
		return user
	case found == nil:
		return d.absent(username)
	}
	return d.present(found, found.subject)
}

func (d *Directory) present(found *entry, account string) identity.DirectoryUser {
	return identity.DirectoryUser{
		Provider: d.config.ID, Issuer: d.config.issuer(), Subject: found.subject, Account: account, Failures: d.failures,
		Verify: func(ctx context.Context, password string) (identity.ExternalSignIn, error) {
			user, err := d.verify(ctx, found, password)
			if errors.Is(err, ErrUnavailable) {
				err = identity.ErrDirectoryUnavailable
			}
			return identity.ExternalSignIn{User: user, Decide: d.Decide}, err
		},
	}
}

// absent is a user that the directory does not have.
func (d *Directory) absent(username string) identity.DirectoryUser {
	return identity.DirectoryUser{
		Provider: d.config.ID, Issuer: d.config.issuer(), Unknown: strings.ToLower(username), Failures: d.failures,
		Verify: func(context.Context, string) (identity.ExternalSignIn, error) {
			return identity.ExternalSignIn{}, identity.ErrWrongCredentials
		},
	}
}

// changed tells the operator how many directories do not respond.
func (all *Directories) changed() {
	if all.options.OnAvailability == nil {
		return
	}
	down := 0
	for _, d := range all.list {
		if d.available.isDown() {
			down++
		}
	}
	all.options.OnAvailability(down)
}
