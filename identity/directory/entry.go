package directory

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-ldap/ldap/v3"

	"github.com/valetkey/valetkey/identity"
)

// entry is a user that was found, or one who can only be found with the password (user_bind).
type entry struct {
	dn, subject string
	// bindName is the DN, or the name, with which the user binds.
	bindName             string
	username, identifier string
	entry                *ldap.Entry
}

// fill puts names into a filter or a DN, escaped for where they are put.
func fill(text, username, identifier string, escape func(string) string) string {
	return strings.NewReplacer("{username}", escape(username), "{identifier}", escape(identifier)).Replace(text)
}

// escapeFilter escapes a value of a filter (RFC 4515, section 3).
func escapeFilter(value string) string { return ldap.EscapeFilter(value) }

// bindName returns what a user binds with. "" if the name cannot be one.
func (d *Directory) bindName(username string) string {
	if strings.Contains(d.config.UserBind, "=") {
		return fill(d.config.UserBind, username, username, ldap.EscapeDN)
	}
	if strings.ContainsAny(username, `@\/=,+<>;"`) { // a user principal name has no escapes
		return ""
	}
	return fill(d.config.UserBind, username, username, func(s string) string { return s })
}

// openService returns a connection of the service account.
func (d *Directory) openService(ctx context.Context) (*connection, error) {
	c, err := d.connect(ctx)
	if err != nil {
		return nil, err
	}
	err = c.do(ctx, func() error { return d.bind(c, d.config.BindDN, d.password) })
	if err != nil {
		c.Close()
		// The users are not at fault, so to them the directory is not available.
		return nil, fmt.Errorf("%w: bind as the service account %q: %w", ErrUnavailable, d.config.BindDN, err)
	}
	d.trace.add("bind", "as %s", d.config.BindDN)
	return c, nil
}

// bind authenticates with a password. Without one, a bind would succeed and prove nothing (RFC 4513,
// section 5.1.2).
func (d *Directory) bind(c *connection, name, password string) error {
	if name == "" || password == "" {
		return identity.ErrWrongCredentials
	}
	request := ldap.NewSimpleBindRequest(name, password, nil)
	if d.config.Type != TypeActiveDirectory {
		request.Controls = []ldap.Control{ldap.NewControlBeheraPasswordPolicy()}
	}
	result, err := c.SimpleBind(request)
	var controls []ldap.Control
	if result != nil {
		controls = result.Controls
	}
	if refused := bindRefusal(err, controls); refused != nil {
		return refused
	}
	return err
}

// attributes are those that are read of a user.
func (d *Directory) attributes() []string {
	names := append([]string{d.config.SubjectAttribute}, accountAttributes...)
	for _, attribute := range d.config.Attributes {
		names = append(names, strings.TrimSuffix(attribute, "[]"))
	}
	if d.posixMembers() {
		names = append(names, "uid")
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// find returns the user that a filter finds; nil if there is none, or more than one.
func (d *Directory) find(ctx context.Context, filter string) (found *entry, err error) {
	err = d.asked(ctx, func(ctx context.Context) error {
		return d.searches.use(ctx, func(c *connection) error {
			found, err = d.search(ctx, c, filter)
			return err
		})
	})
	return found, err
}

func (d *Directory) search(ctx context.Context, c *connection, filter string) (*entry, error) {
	result, err := c.Search(ldap.NewSearchRequest(d.config.UserBase, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 2, int(d.timeout/time.Second)+1, false, filter, d.attributes(), nil))
	if err != nil && !ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded) {
		return nil, fmt.Errorf("search for a user: %w", unavailable(err))
	}
	d.trace.add("search", "%s below %s: %d found", filter, d.config.UserBase, len(result.Entries))
	switch len(result.Entries) {
	case 0:
		return nil, nil
	case 1:
	default:
		d.log.LogAttrs(ctx, slog.LevelError, "user_filter finds several users", slog.String("directory", d.config.ID),
			slog.String("first", result.Entries[0].DN), slog.String("second", result.Entries[1].DN))
		return nil, nil
	}
	e := &entry{dn: result.Entries[0].DN, bindName: result.Entries[0].DN, entry: result.Entries[0]}
	if e.subject, err = d.subjectOf(e.entry); err != nil {
		return nil, err
	}
	return e, nil
}

// maxSubjectBytes is what an account can store.
const maxSubjectBytes = 255

// subjectOf returns what identifies a user for ever.
func (d *Directory) subjectOf(e *ldap.Entry) (string, error) {
	values := e.GetEqualFoldRawAttributeValues(d.config.SubjectAttribute)
	if len(values) != 1 || len(values[0]) == 0 {
		return "", fmt.Errorf("the user %q has %d values of %s, which identifies users: set subject_attribute, or let the service account read it", e.DN, len(values), d.config.SubjectAttribute)
	}
	value := values[0]
	var subject string
	switch {
	case strings.EqualFold(d.config.SubjectAttribute, "objectGUID") && len(value) == 16:
		subject = guid(value)
	case utf8.Valid(value):
		subject = string(value)
	default:
		subject = "hex:" + hex.EncodeToString(value)
	}
	if len(subject) > maxSubjectBytes {
		return "", fmt.Errorf("the user %q has a value of %s with more than %d bytes", e.DN, d.config.SubjectAttribute, maxSubjectBytes)
	}
	return subject, nil
}

// guid returns the usual form of an objectGUID, whose first three parts are little-endian ([MS-DTYP],
// section 2.3.4).
func guid(b []byte) string {
	return fmt.Sprintf("%02x%02x%02x%02x-%02x%02x-%02x%02x-%x-%x", b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6], b[8:10], b[10:])
}

// subjectFilter finds a user by the subject.
func (d *Directory) subjectFilter(subject string) string {
	value := ldap.EscapeFilter(subject)
	raw, isHex := strings.CutPrefix(subject, "hex:")
	decoded, err := hex.DecodeString(strings.ReplaceAll(raw, "-", ""))
	switch {
	case strings.EqualFold(d.config.SubjectAttribute, "objectGUID") && err == nil && len(decoded) == 16:
		slices.Reverse(decoded[0:4])
		slices.Reverse(decoded[4:6])
		slices.Reverse(decoded[6:8])
		value = escapeBytes(decoded)
	case isHex && err == nil:
		value = escapeBytes(decoded)
	}
	return "(" + d.config.SubjectAttribute + "=" + value + ")"
}

func escapeBytes(value []byte) string {
	var escaped strings.Builder
	for _, b := range value {
		fmt.Fprintf(&escaped, `\%02x`, b)
	}
	return escaped.String()
}

// verify checks the password of a user, and returns what the directory says about them. The error is
// identity.ErrWrongCredentials, *identity.DirectoryRefusedError, ErrUnavailable or an internal error.
func (d *Directory) verify(ctx context.Context, e *entry, password string) (user *identity.ExternalUser, err error) {
	if password == "" || e.bindName == "" {
		return nil, identity.ErrWrongCredentials
	}
	if e.entry != nil {
		// A locked account is not tried: the directory would count it.
		if reason := accountRefusal(e.entry, time.Now()); reason != "" && reason != identity.DirectoryPasswordExpired {
			d.trace.add("account", "%s", reason)
			return nil, &identity.DirectoryRefusedError{Reason: reason}
		}
	}
	err = d.asked(ctx, func(ctx context.Context) error {
		return d.binds.use(ctx, func(c *connection) error {
			if err := d.bind(c, e.bindName, password); err != nil {
				return err
			}
			d.trace.add("bind", "as %s", e.bindName)
			if e.entry != nil {
				return nil
			}
			found, err := d.search(ctx, c, fill(d.config.UserFilter, e.username, e.identifier, escapeFilter))
			if err != nil {
				return err
			}
			if found == nil {
				return fmt.Errorf("the user who has bound as %q does not find their own entry", e.bindName)
			}
			e.dn, e.subject, e.entry = found.dn, found.subject, found.entry
			user, err = d.describe(c, e)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	if user == nil {
		err = d.asked(ctx, func(ctx context.Context) error {
			return d.searches.use(ctx, func(c *connection) error {
				user, err = d.describe(c, e)
				return err
			})
		})
	}
	if err != nil {
		return nil, err
	}
	if reason := accountRefusal(e.entry, time.Now()); reason != "" {
		d.trace.add("account", "%s", reason)
		return nil, &identity.DirectoryRefusedError{Reason: reason}
	}
	return user, nil
}

// describe returns what the directory says about a user who has proved the password.
func (d *Directory) describe(c *connection, e *entry) (*identity.ExternalUser, error) {
	claims := map[string]any{}
	for claim, attribute := range d.config.Attributes {
		name, isList := strings.CutSuffix(attribute, "[]")
		values := slices.DeleteFunc(slices.Clone(e.entry.GetEqualFoldAttributeValues(name)), func(v string) bool { return v == "" || !utf8.ValidString(v) })
		switch {
		case len(values) == 0:
		case isList:
			list := make([]any, len(values))
			for i, value := range values {
				list[i] = value
			}
			claims[claim] = list
		default:
			claims[claim] = values[0]
		}
	}
	if d.config.Groups != GroupsOff {
		groups, err := d.groupsOf(c, e)
		if err != nil {
			return nil, fmt.Errorf("search for the groups of a user: %w", unavailable(err))
		}
		list := make([]any, len(groups))
		for i, group := range groups {
			list[i] = group
		}
		claims["groups"] = list
	}
	d.trace.add("claims", "%s", strings.Join(slices.Sorted(maps.Keys(claims)), " "))
	user := &identity.ExternalUser{
		Provider: d.config.ID, Name: d.config.Name, Issuer: d.config.issuer(), Subject: e.subject,
		Claims: claims, AMR: []string{"pwd"}, AuthTime: time.Now(),
	}
	if email, ok := claims["email"].(string); ok && len(email) <= maxIdentifierBytes {
		user.Email = email
		user.EmailTrusted = d.config.TrustEmail && identity.ValidEmailAddress(email)
	}
	return user, nil
}

var errTooManyGroups = errors.New("the user is in more groups than are allowed")
