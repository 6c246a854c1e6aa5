package directory

import (
	"context"
	"errors"
	"fmt"

	"github.com/valetkey/valetkey/identity"
)

// Step is a step of a sign-in. It contains no secrets.
type Step struct {
	Name   string `json:"name"`
	Detail string `json:"detail"`
}

// Trace collects the steps of a sign-in. A nil value collects nothing.
type Trace struct{ Steps []Step }

func (t *Trace) add(name, format string, arguments ...any) {
	if t != nil {
		t.Steps = append(t.Steps, Step{name, fmt.Sprintf(format, arguments...)})
	}
}

// Test connects to a directory, and looks a user up if identifier is not "". With a password, it signs
// the user in as a server would, and applies the rule. It stores nothing, and is not safe for concurrent
// use.
func (d *Directory) Test(ctx context.Context, identifier, password string) (*Trace, error) {
	trace := &Trace{}
	d.trace = trace
	defer func() { d.trace = nil }()
	if d.config.service() {
		if err := d.asked(ctx, func(ctx context.Context) error {
			return d.searches.use(ctx, func(c *connection) error { return nil })
		}); err != nil {
			return trace, err
		}
	} else if err := d.asked(ctx, func(ctx context.Context) error {
		return d.binds.use(ctx, func(c *connection) error { return nil })
	}); err != nil {
		return trace, err
	}
	if identifier == "" {
		return trace, nil
	}
	username, whole, ok := d.names(identifier)
	if !ok {
		return trace, errors.New("this cannot be the name of a user")
	}
	found := &entry{bindName: d.bindName(username), username: username, identifier: whole}
	if d.config.service() {
		var err error
		if found, err = d.find(ctx, fill(d.config.UserFilter, username, whole, escapeFilter)); err != nil {
			return trace, err
		}
		if found == nil {
			return trace, errors.New("the directory has no such user, or several")
		}
		trace.add("user", "%s, %s=%s", found.dn, d.config.SubjectAttribute, found.subject)
	}
	var user *identity.ExternalUser
	var err error
	switch {
	case password != "":
		user, err = d.verify(ctx, found, password)
	case !d.config.service():
		return trace, errors.New("user_bind: users are only found with their password")
	default:
		err = d.asked(ctx, func(ctx context.Context) error {
			return d.searches.use(ctx, func(c *connection) error {
				user, err = d.describe(c, found)
				return err
			})
		})
	}
	if err != nil {
		return trace, err
	}
	return trace, d.testRule(trace, user)
}

func (d *Directory) testRule(trace *Trace, user *identity.ExternalUser) error {
	admission, err := d.Decide(user, true)
	switch {
	case err != nil:
		return err
	case admission.Refused:
		return fmt.Errorf("the rule refuses the user: %s", admission.Reason)
	case !admission.Create:
		trace.add("rule", "creates no account; groups %q", admission.Groups)
	default:
		trace.add("rule", "creates an account; groups %q", admission.Groups)
	}
	return nil
}
