// Package declare writes the declarations of a configuration into a database, or compares
// them with it.
package declare

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/storage/declaration"
	"github.com/valetkey/valetkey/storage/sqldb"
)

// Options say how declarations are applied. The zero value adds and changes records, and
// retires none.
type Options struct {
	// Source is the name of the source of the declarations. It owns the records that it names;
	// those that it no longer names are retired.
	Source string
	// FormerSource is the name that an earlier release gave to the source; "" if none.
	FormerSource string
	// KeepUnnamed retires no records.
	KeepUnnamed bool
	// Prune permanently removes these records if the source declared them before and no longer
	// names them.
	Prune []declaration.Name
	// PruneAll permanently removes all such records.
	PruneAll bool
	// OnlyNewer applies nothing if a newer version of the source was applied before, for
	// example by another node.
	OnlyNewer bool
	// Check, if set, is called with what Apply is about to do: before passwords are hashed, and again
	// inside the transaction that writes. If it returns an error, nothing changes.
	Check func(*declaration.Plan) error
}

// Result is what was changed.
type Result struct {
	Changes []declaration.Change
	// Older reports that nothing was applied because a newer version was applied before.
	Older bool
}

// Apply writes declarations into a database. What is stored decides, inside the transaction
// that writes. Passwords are hashed before, and only new ones. The error is a
// *declaration.ConflictError if some records could not be declared.
func Apply(ctx context.Context, store *sqldb.Store, d *configuration.Declarations, options Options) (Result, error) {
	result, err := reconcile(ctx, store, d, options, false)
	if err != nil {
		return result, fmt.Errorf("apply declarations: %w", err)
	}
	return result, declaration.Conflicts(result.Changes)
}

// Diff returns what Apply would do, and writes nothing.
func Diff(ctx context.Context, store *sqldb.Store, d *configuration.Declarations, options Options) (Result, error) {
	result, err := reconcile(ctx, store, d, options, true)
	if err != nil {
		return result, fmt.Errorf("compare declarations: %w", err)
	}
	return result, nil
}

const (
	// declareTimeout limits each transaction. Hashing thousands of new passwords takes longer.
	declareTimeout = 2 * time.Minute
	declareRetries = 5
)

// errUnhashed ends a transaction in which a password is new that was not new when the others
// were hashed.
var errUnhashed = errors.New("declared passwords changed during the update")

func reconcile(ctx context.Context, store *sqldb.Store, d *configuration.Declarations, options Options, dry bool) (Result, error) {
	in, err := prepare(store, d, options)
	if err != nil {
		return Result{}, err
	}
	for try := 0; ; try++ {
		plan, err := planned(ctx, store, d, in)
		if err == nil && !dry && options.Check != nil {
			err = options.Check(&plan)
		}
		if err != nil || dry || plan.Empty() {
			return Result{plan.Changes, plan.Older}, err
		}
		if err := hash(ctx, d, in, plan.Unhashed); err != nil {
			return Result{}, err
		}
		plan, err = write(ctx, store, in, options.Check)
		// Since the state was read, a name was taken or another node declared a password.
		again := errors.Is(err, errUnhashed) || errors.Is(err, identity.ErrIdentifierTaken)
		if !again || try == declareRetries {
			return Result{plan.Changes, plan.Older}, err
		}
	}
}

// prepare returns the input for declaration.Reconcile.
func prepare(store *sqldb.Store, d *configuration.Declarations, options Options) (*declaration.Input, error) {
	if err := d.Validate(); err != nil {
		return nil, err
	}
	in, err := d.Input()
	if err != nil {
		return nil, err
	}
	in.Now, in.Source, in.Formerly = time.Now(), options.Source, options.FormerSource
	in.Force, in.KeepUnnamed, in.Prune = !options.OnlyNewer, options.KeepUnnamed, options.PruneAll
	for _, name := range options.Prune {
		if in.Pruned == nil {
			in.Pruned = map[declaration.Name]bool{}
		}
		in.Pruned[declaration.Name{Kind: name.Kind, Name: name.Name}] = true
	}
	for i := range in.Users {
		if password := d.Users[i].Password; password != "" {
			in.Users[i].Password.Mark = func(id string) string { return store.PasswordFingerprint(id, password) }
		}
	}
	in.Version, err = Version(store, d)
	return in, err
}

// planned returns what to do, without writing anything.
func planned(ctx context.Context, store *sqldb.Store, d *configuration.Declarations, in *declaration.Input) (declaration.Plan, error) {
	reading, cancel := context.WithTimeout(ctx, declareTimeout)
	defer cancel()
	state, err := store.DeclaredState(reading, in.Selection())
	if err != nil {
		return declaration.Plan{}, err
	}
	plan := declaration.Reconcile(in, state)
	if err := invalid(&plan); err != nil || len(plan.Unhashed) == 0 {
		return plan, err
	}
	// An earlier release stored hashes of declared passwords, not fingerprints.
	stored := make(map[string]*identity.User, len(state.Users))
	for i := range state.Users {
		u := &state.Users[i].Record
		stored[canonicalName(u.Username)] = u
	}
	err = inParallel(ctx, plan.Unhashed, func(i int) error {
		u := stored[canonicalName(d.Users[i].Username)]
		if u != nil && strings.HasPrefix(u.DeclaredPassword, "$") && identity.VerifyPassword(u.DeclaredPassword, d.Users[i].Password) {
			in.Users[i].Password.SameAs = u.DeclaredPassword
		}
		return nil
	})
	if err != nil {
		return declaration.Plan{}, err
	}
	return declaration.Reconcile(in, state), nil
}

// InvalidError means that declarations are not valid together with what is stored.
type InvalidError struct{ err error }

func (e *InvalidError) Error() string { return e.err.Error() }

// Unwrap returns the problems.
func (e *InvalidError) Unwrap() error { return e.err }

func invalid(plan *declaration.Plan) error {
	if err := errors.Join(plan.Invalid...); err != nil {
		return &InvalidError{err}
	}
	return nil
}

// hash sets the hashes of new passwords.
func hash(ctx context.Context, d *configuration.Declarations, in *declaration.Input, users []int) error {
	return inParallel(ctx, users, func(i int) (err error) {
		if in.Users[i].Password.Hash, err = identity.HashPassword(d.Users[i].Password); err != nil {
			return fmt.Errorf("hash the password of %q: %w", d.Users[i].Username, err)
		}
		return nil
	})
}

// write reconciles again, with the rows locked, and writes.
func write(ctx context.Context, store *sqldb.Store, in *declaration.Input, check func(*declaration.Plan) error) (plan declaration.Plan, err error) {
	ctx, cancel := context.WithTimeout(ctx, declareTimeout)
	defer cancel()
	err = store.Reconcile(ctx, in.Now, in.Selection(), func(state *declaration.State) (*declaration.Plan, error) {
		plan = declaration.Reconcile(in, state)
		if len(plan.Unhashed) > 0 {
			return nil, errUnhashed
		}
		if err := invalid(&plan); err != nil || check == nil {
			return &plan, err
		}
		return &plan, check(&plan)
	})
	return plan, err
}

// inParallel calls do for each index, on all processors.
func inParallel(ctx context.Context, indexes []int, do func(i int) error) error {
	next := make(chan int)
	errs := make(chan error, len(indexes))
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(indexes)) {
		workers.Go(func() {
			for i := range next {
				errs <- do(i)
			}
		})
	}
	var err error
	for _, i := range indexes {
		if err = ctx.Err(); err != nil {
			break
		}
		next <- i
	}
	close(next)
	workers.Wait()
	close(errs)
	for e := range errs {
		err = errors.Join(err, e)
	}
	return err
}

// Version identifies declarations. Its digest is keyed, because they may contain passwords.
func Version(store *sqldb.Store, d *configuration.Declarations) (*declaration.Version, error) {
	document, err := d.Document()
	if err != nil {
		return nil, err
	}
	return &declaration.Version{Digest: store.DeclarationDigest(document), Modified: d.Modified}, nil
}

// canonicalName returns the same name for all spellings of a username.
func canonicalName(username string) string {
	canonical, err := identity.CanonicalIdentifier(username)
	if err != nil {
		return username // no valid user has it
	}
	return canonical
}
