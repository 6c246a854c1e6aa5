package valetkey

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/storage/declaration"
	"github.com/valetkey/valetkey/storage/sqldb"
)

// Change is what a declaration does to one record, or why it cannot.
type Change = declaration.Change

// The values of Change.Action.
const (
	ActionAdd      = declaration.ActionAdd
	ActionChange   = declaration.ActionChange
	ActionRetire   = declaration.ActionRetire
	ActionRestore  = declaration.ActionRestore
	ActionRemove   = declaration.ActionRemove
	ActionConflict = declaration.ActionConflict
	ActionNone     = declaration.ActionNone
)

// MemberChange is one member that differs, as JSON; "" where it is absent.
type MemberChange = declaration.MemberChange

// RecordName names a client, user, scope or resource.
type RecordName = declaration.Name

// ConflictError says that some records could not be declared. All others were.
type ConflictError struct{ err error }

func (e *ConflictError) Error() string { return e.err.Error() }
func (e *ConflictError) Unwrap() error { return e.err }

// DeclareOptions say how declarations are taken. The zero value adds and changes, and
// retires nothing.
type DeclareOptions struct {
	// Source is the name of what declares: it owns the records that it names, and those that
	// it names no longer are retired.
	Source string
	// FormerSource is what an earlier release called the source; "" if nothing.
	FormerSource string
	// KeepUnnamed retires nothing.
	KeepUnnamed bool
	// Prune removes for good those of the named records that the source declared before and
	// does not name now.
	Prune []RecordName
	// PruneAll removes all of them.
	PruneAll bool
	// OnlyNewer applies nothing if something newer of the source was applied before, by
	// another node for instance.
	OnlyNewer bool
}

// Declared is what became of declarations.
type Declared struct {
	Changes []Change
	// Older says that nothing was applied because something newer was applied before.
	Older bool
}

// CountChanges counts what changed: neither conflicts nor notes.
func CountChanges(changes []Change) int {
	n := 0
	for i := range changes {
		if changes[i].Happens() {
			n++
		}
	}
	return n
}

// Apply puts declarations into a database and returns what that changed. A member that is
// not named keeps its value. With source "", nothing is retired; otherwise what the same
// source declared before and declares no longer is. The error is a *ConflictError if some
// records could not be declared.
func (d *Declarations) Apply(ctx context.Context, store *sqldb.Store, source string) ([]Change, error) {
	declared, err := d.ApplyWith(ctx, store, DeclareOptions{Source: source})
	return declared.Changes, err
}

// ApplyWith is Apply with options. What is stored decides, inside the transaction that
// writes; passwords are hashed before, and only those that were not declared before.
func (d *Declarations) ApplyWith(ctx context.Context, store *sqldb.Store, options DeclareOptions) (Declared, error) {
	declared, err := d.reconcile(ctx, store, options, false)
	if err != nil {
		return declared, fmt.Errorf("apply declarations: %w", err)
	}
	if err := declaration.IsConflict(declared.Changes); err != nil {
		return declared, &ConflictError{err}
	}
	return declared, nil
}

// Diff returns what Apply would change, conflicts included.
func (d *Declarations) Diff(ctx context.Context, store *sqldb.Store) ([]Change, error) {
	declared, err := d.DiffWith(ctx, store, DeclareOptions{})
	return declared.Changes, err
}

// DiffWith returns what ApplyWith would do.
func (d *Declarations) DiffWith(ctx context.Context, store *sqldb.Store, options DeclareOptions) (Declared, error) {
	declared, err := d.reconcile(ctx, store, options, true)
	if err != nil {
		return declared, fmt.Errorf("compare declarations: %w", err)
	}
	return declared, nil
}

const (
	// declareTimeout bounds each transaction. Hashing thousands of new passwords takes longer.
	declareTimeout = 2 * time.Minute
	declareRetries = 5
)

// errUnhashed ends a transaction that finds a password to be new which was not new when the
// others were hashed.
var errUnhashed = errors.New("declared passwords changed meanwhile")

func (d *Declarations) reconcile(ctx context.Context, store *sqldb.Store, options DeclareOptions, dry bool) (Declared, error) {
	in, err := d.prepare(store, options)
	if err != nil {
		return Declared{}, err
	}
	for try := 0; ; try++ {
		plan, err := d.plan(ctx, store, in)
		if err != nil || dry || plan.Empty() {
			return Declared{plan.Changes, plan.Older}, err
		}
		if err := d.hash(ctx, in, plan.Unhashed); err != nil {
			return Declared{}, err
		}
		plan, err = write(ctx, store, in)
		// A name was taken between the reading and the writing, or a password was
		// declared by another node.
		again := errors.Is(err, errUnhashed) || errors.Is(err, identity.ErrIdentifierTaken)
		if !again || try == declareRetries {
			return Declared{plan.Changes, plan.Older}, err
		}
	}
}

// prepare returns the declarations in the form that a store takes.
func (d *Declarations) prepare(store *sqldb.Store, options DeclareOptions) (*declaration.Input, error) {
	if err := d.Validate(); err != nil {
		return nil, err
	}
	in, err := d.input()
	if err != nil {
		return nil, err
	}
	in.Now, in.Source, in.Formerly = time.Now(), options.Source, options.FormerSource
	in.Force, in.KeepUnnamed, in.Prune, in.Check = !options.OnlyNewer, options.KeepUnnamed, options.PruneAll, checkRecord
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
	in.Version, err = d.version(store)
	return in, err
}

// plan decides what to do, without writing anything.
func (d *Declarations) plan(ctx context.Context, store *sqldb.Store, in *declaration.Input) (declaration.Plan, error) {
	reading, cancel := context.WithTimeout(ctx, declareTimeout)
	defer cancel()
	state, err := store.DeclaredState(reading, in.Selection())
	if err != nil {
		return declaration.Plan{}, err
	}
	plan := declaration.Reconcile(in, state)
	if err := errors.Join(plan.Invalid...); err != nil || len(plan.Unhashed) == 0 {
		return plan, err
	}
	// An earlier release noted hashes of declared passwords, not fingerprints.
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

// hash fills in the hashes of passwords that are new.
func (d *Declarations) hash(ctx context.Context, in *declaration.Input, users []int) error {
	return inParallel(ctx, users, func(i int) (err error) {
		if in.Users[i].Password.Hash, err = identity.HashPassword(d.Users[i].Password); err != nil {
			return fmt.Errorf("hash the password of %q: %w", d.Users[i].Username, err)
		}
		return nil
	})
}

// write decides again, against the rows that are locked now, and writes.
func write(ctx context.Context, store *sqldb.Store, in *declaration.Input) (plan declaration.Plan, err error) {
	ctx, cancel := context.WithTimeout(ctx, declareTimeout)
	defer cancel()
	err = store.Reconcile(ctx, in.Now, in.Selection(), func(state *declaration.State) (*declaration.Plan, error) {
		plan = declaration.Reconcile(in, state)
		if len(plan.Unhashed) > 0 {
			return nil, errUnhashed
		}
		return &plan, errors.Join(plan.Invalid...)
	})
	return plan, err
}

// inParallel does something to each of the indexes, on every processor.
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

// version identifies the declarations. It is a keyed hash, because they may hold passwords.
func (d *Declarations) version(store *sqldb.Store) (*declaration.Version, error) {
	document, err := d.document()
	if err != nil {
		return nil, err
	}
	return &declaration.Version{Digest: store.DeclarationDigest(document), Modified: d.Modified}, nil
}

// canonicalName is what two spellings of one username have in common.
func canonicalName(username string) string {
	canonical, err := identity.CanonicalIdentifier(username)
	if err != nil {
		return username // no user that was checked has it
	}
	return canonical
}
