package directory

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"github.com/valetkey/valetkey/identity"
)

// checkedAtOnce is how many users one search looks up.
const checkedAtOnce = 100

// gone is the reason of a user whom the directory no longer has.
const gone identity.DirectoryReason = "gone"

// refused returns those of some users whom the directory no longer lets in: they are disabled, have
// expired, or are gone. A locked account and an expired password keep nobody from continuing a
// session: a stranger can lock an account in many directories.
func (d *Directory) refused(ctx context.Context, subjects []string) (map[string]identity.DirectoryReason, error) {
	if !d.config.service() {
		return nil, nil
	}
	reasons := map[string]identity.DirectoryReason{}
	for some := range slices.Chunk(subjects, checkedAtOnce) {
		var filter strings.Builder
		for _, subject := range some {
			filter.WriteString(d.subjectFilter(subject))
			reasons[subject] = gone
		}
		err := d.asked(ctx, func(ctx context.Context) error {
			return d.searches.use(ctx, func(c *connection) error {
				result, err := c.Search(ldap.NewSearchRequest(d.config.UserBase, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 0, 0, false, "(|"+filter.String()+")", d.attributes(), nil))
				if err != nil {
					return fmt.Errorf("look users up: %w", unavailable(err))
				}
				for _, e := range result.Entries {
					subject, err := d.subjectOf(e)
					if err != nil {
						return err
					}
					switch reason := accountRefusal(e, time.Now()); reason {
					case identity.DirectoryDisabled, identity.DirectoryExpired:
						reasons[subject] = reason
					default:
						delete(reasons, subject)
					}
				}
				return nil
			})
		})
		if err != nil {
			return nil, err
		}
	}
	return reasons, nil
}

// LetsIn reports whether the directory still lets a user in, for sign-ins that begin with another method
// than the password there. known is false if the directory did not respond, or if only users themselves
// can search.
func (d *Directory) LetsIn(ctx context.Context, subject string) (in, known bool) {
	reasons, err := d.refused(ctx, []string{subject})
	if err != nil && !errors.Is(err, ErrUnavailable) {
		d.log.LogAttrs(ctx, slog.LevelError, "user of a directory not checked", slog.String("directory", d.config.ID), slog.Any("error", err))
	}
	return reasons[subject] == "", err == nil && d.config.service()
}

// Interval is how often CheckUsers should be called; zero if it is of no use.
func (d *Directory) Interval() time.Duration {
	if !d.config.service() {
		return 0
	}
	return time.Duration(d.config.CheckInterval)
}

// minSuspicious is the number of users from which on it is more likely that the service account has lost
// a permission, or that base is wrong, than that most of them have gone.
const minSuspicious = 10

// CheckUsers looks up the users of the directory who have accounts, and takes access from those whom it
// no longer lets in. It returns how many these were.
func (d *Directory) CheckUsers(ctx context.Context, accounts *identity.Accounts) (suspended int, err error) {
	links, err := accounts.LinkedWith(ctx, d.config.issuer())
	if err != nil || len(links) == 0 {
		return 0, err
	}
	var subjects []string
	for subject := range links {
		subjects = append(subjects, subject)
	}
	reasons, err := d.refused(ctx, subjects)
	if errors.Is(err, ErrUnavailable) {
		return 0, nil // it was logged once
	}
	if err != nil {
		return 0, err
	}
	vanished := 0
	for _, reason := range reasons {
		if reason == gone {
			vanished++
		}
	}
	if vanished >= minSuspicious && vanished > len(subjects)/2 {
		return 0, fmt.Errorf("check the users of the directory %s: %d of %d are not found; nobody was signed out, because the service account may have lost a permission", d.config.ID, vanished, len(subjects))
	}
	for subject, reason := range reasons {
		if err := accounts.SuspendExternal(ctx, time.Now(), links[subject], d.config.issuer(), subject, string(reason)); err != nil {
			return suspended, err
		}
		suspended++
	}
	return suspended, nil
}
