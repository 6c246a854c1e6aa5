// Package declaration compares the clients, users, scopes and resources that an operator
// declares with those that are stored, and decides what to write.
//
//	input.go      Input: what is declared; State: what is stored; Plan: what to write
//	reconcile.go  Reconcile, for clients, scopes and resources
//	user.go       users
//	change.go     Change: what a plan does, for a diff
//	declaration.go  Declaration: records that are stored exactly as given
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

// Declaration is a set of complete records. A user is identified by the username; the store
// sets the ID, CreatedAt and UpdatedAt of a declared user.
type Declaration struct {
	Clients   []record.Client
	Users     []identity.User
	Scopes    []record.Scope
	Resources []record.Resource
}

// Check reports every record without a name, with the name of another record, or that cannot
// be encoded as JSON.
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

// SameUser reports whether a declared username identifies a user.
func SameUser(u *identity.User, username string) bool {
	have, err := identity.CanonicalIdentifier(u.Username)
	if err != nil {
		return false
	}
	want, err := identity.CanonicalIdentifier(username)
	return err == nil && have == want
}

// Whole returns an input that stores every record exactly as given: a member that is zero has
// no value afterwards, whatever is stored.
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
