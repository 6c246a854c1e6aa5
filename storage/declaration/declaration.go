// Package declaration is what an operator writes down about an issuer: its clients, users,
// scopes and resources, as records that every store takes whole.
package declaration

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/storage/record"
)

// Declaration is a set of whole records. A user is who has the username; the ID, CreatedAt
// and UpdatedAt of a declared user are not looked at, since the store gives them.
type Declaration struct {
	Clients   []record.Client
	Users     []identity.User
	Scopes    []record.Scope
	Resources []record.Resource
}

// Check reports every record that has no name, has the name of another one, or cannot be
// written as JSON.
func (d *Declaration) Check() error {
	seen := map[string]bool{}
	once := func(kind, name string) error {
		switch {
		case name == "":
			return fmt.Errorf("a %s has no name", kind)
		case seen[kind+" "+name]:
			return fmt.Errorf("%s %q is declared twice", kind, name)
		}
		seen[kind+" "+name] = true
		return nil
	}
	var err error
	for _, c := range d.Clients {
		err = errors.Join(err, once("client", c.ID))
		if _, jsonErr := json.Marshal(c); jsonErr != nil {
			err = errors.Join(err, fmt.Errorf("client %q: %w", c.ID, jsonErr))
		}
	}
	for _, s := range d.Scopes {
		err = errors.Join(err, once("scope", s.Name))
	}
	for _, r := range d.Resources {
		err = errors.Join(err, once("resource", r.Identifier))
	}
	for _, u := range d.Users {
		canonical, nameErr := identity.CanonicalIdentifier(u.Username)
		if nameErr != nil {
			err = errors.Join(err, fmt.Errorf("user %q: username: %w", u.Username, nameErr))
			continue
		}
		err = errors.Join(err, once("user", canonical))
	}
	return err
}

// SameUser reports whether a declared username means this person.
func SameUser(u *identity.User, username string) bool {
	have, err := identity.CanonicalIdentifier(u.Username)
	if err != nil {
		return false
	}
	want, err := identity.CanonicalIdentifier(username)
	return err == nil && have == want
}

// Whole returns an input in which every record is exactly as given: a member that is zero
// has no value afterwards, whatever is stored.
func (d *Declaration) Whole(now time.Time, source string) (*Input, error) {
	if err := d.Check(); err != nil {
		return nil, err
	}
	in := &Input{Now: now, Source: source}
	for _, c := range d.Clients {
		members, err := membersOf(c)
		if err != nil {
			return nil, fmt.Errorf("client %q: %w", c.ID, err)
		}
		in.Clients = append(in.Clients, Client{ID: c.ID, Members: members, whole: &record.Client{Secrets: slices.Clone(c.Secrets)}})
	}
	for _, s := range d.Scopes {
		members, err := membersOf(s)
		if err != nil {
			return nil, fmt.Errorf("scope %q: %w", s.Name, err)
		}
		in.Scopes = append(in.Scopes, Record{Name: s.Name, Members: members, whole: true})
	}
	for _, r := range d.Resources {
		members, err := membersOf(r)
		if err != nil {
			return nil, fmt.Errorf("resource %q: %w", r.Identifier, err)
		}
		in.Resources = append(in.Resources, Record{Name: r.Identifier, Members: members, whole: true})
	}
	for _, u := range d.Users {
		exact := u
		exact.Claims = maps.Clone(u.Claims)
		in.Users = append(in.Users, User{Username: u.Username, Claims: exact.Claims, exact: &exact})
	}
	return in, nil
}

func membersOf(value any) (Members, error) {
	document, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	var members Members
	return members, json.Unmarshal(document, &members)
}
