package configuration

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/manage/api"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/declaration"
	"github.com/valetkey/valetkey/storage/record"
)

// named are the members that a file names with a value that a Go struct cannot tell from
// absence: null, false, an empty list. The key is the kind and name of the record.
type named map[declaration.Name]declaration.Members

// decodeDocument decodes a configuration in JSON. null removes a member of a declared record,
// so it is not decoded into the record.
func decodeDocument(document []byte, c *Configuration) error {
	var whole map[string]json.RawMessage
	if err := json.Unmarshal(document, &whole); err != nil {
		return err
	}
	records := map[string][]declaration.Members{}
	for _, section := range sections {
		if len(whole[section]) == 0 {
			continue
		}
		var list []declaration.Members
		if err := json.Unmarshal(whole[section], &list); err != nil {
			return err
		}
		if list == nil {
			continue // a section without a value
		}
		records[section] = list
		present := make([]declaration.Members, len(list))
		for i, members := range list {
			present[i] = maps.Clone(members)
			maps.DeleteFunc(present[i], func(_ string, value json.RawMessage) bool { return string(value) == "null" })
		}
		encoded, err := json.Marshal(present)
		if err != nil {
			return err
		}
		whole[section] = encoded
	}
	document, err := json.Marshal(whole)
	if err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(document))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(c); err != nil {
		return err
	}
	c.named = named{}
	var errs []error
	for i, members := range records["clients"] {
		errs = append(errs, c.named.remember(declaration.KindClient, c.Clients[i].ID, members, c.Clients[i]))
	}
	for i, members := range records["users"] {
		errs = append(errs, c.named.remember(declaration.KindUser, c.Users[i].Username, members, c.Users[i]))
	}
	for i, members := range records["scopes"] {
		errs = append(errs, c.named.remember(declaration.KindScope, c.Scopes[i].Name, members, c.Scopes[i]))
	}
	for i, members := range records["resources"] {
		errs = append(errs, c.named.remember(declaration.KindResource, c.Resources[i].Identifier, members, c.Resources[i]))
	}
	return errors.Join(errs...)
}

// remember keeps the members that are not in the decoded record.
func (n named) remember(kind, name string, members declaration.Members, value any) error {
	have, err := encodeMembers(value)
	if err != nil {
		return err
	}
	maps.DeleteFunc(members, func(member string, _ json.RawMessage) bool { return have[member] != nil })
	if len(members) > 0 {
		n[declaration.Name{Kind: kind, Name: name}] = members
	}
	return nil
}

// members returns the members that a declaration names: those with a value, and those that a
// file names without one.
func (n named) members(kind, name string, value any) (declaration.Members, error) {
	members, err := encodeMembers(value)
	if err != nil {
		return nil, fmt.Errorf("%s %q: %w", kind, name, err)
	}
	for member, value := range n[declaration.Name{Kind: kind, Name: name}] {
		if members[member] == nil {
			members[member] = value
		}
	}
	return members, nil
}

func encodeMembers(value any) (declaration.Members, error) {
	document, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	var members declaration.Members
	return members, json.Unmarshal(document, &members)
}

// Input returns the declarations in the form that a store reconciles: record by record, with
// the members that each one names.
func (d *Declarations) Input() (*declaration.Input, error) {
	in := &declaration.Input{Check: checkRecord}
	for _, c := range d.Clients {
		client, err := d.client(c)
		if err != nil {
			return nil, err
		}
		in.Clients = append(in.Clients, client)
	}
	for _, s := range d.Scopes {
		members, err := d.named.members(declaration.KindScope, s.Name, s)
		if err != nil {
			return nil, err
		}
		in.Scopes = append(in.Scopes, declaration.Record{Name: s.Name, Members: members})
	}
	for _, r := range d.Resources {
		members, err := d.named.members(declaration.KindResource, r.Identifier, r)
		if err != nil {
			return nil, err
		}
		in.Resources = append(in.Resources, declaration.Record{Name: r.Identifier, Members: members})
	}
	for _, u := range d.Users {
		user, err := d.user(u)
		if err != nil {
			return nil, err
		}
		in.Users = append(in.Users, user)
	}
	return in, nil
}

// take removes a member and returns it as a string; nil if it is not named, "" for null.
func take(members declaration.Members, name string) *string {
	value, ok := members[name]
	if !ok {
		return nil
	}
	delete(members, name)
	var text string
	if json.Unmarshal(value, &text) != nil {
		text = ""
	}
	return &text
}

func (d *Declarations) client(c Client) (declaration.Client, error) {
	members, err := d.named.members(declaration.KindClient, c.ID, c)
	if err != nil {
		return declaration.Client{}, err
	}
	client := declaration.Client{ID: c.ID, Members: members, Adopt: c.Adopt}
	client.Secret, client.SecretNext = take(members, "client_secret"), take(members, "client_secret_next")
	for _, name := range clientNotes {
		delete(members, name)
	}
	return client, nil
}

// clientNotes and userNotes are members that are not stored with the record.
var (
	clientNotes = []string{"client_id", "client_secret_file", "client_secret_next_file", "adopt"}
	userNotes   = []string{"username", "password_file", "sub", "adopt"}
)

func (d *Declarations) user(u User) (declaration.User, error) {
	user := declaration.User{Username: u.Username, Subject: u.Subject, Adopt: u.Adopt, Claims: map[string]any{}, IsStandardClaim: isStandardClaim}
	members, err := d.named.members(declaration.KindUser, u.Username, u)
	if err != nil {
		return user, err
	}
	if password := take(members, "password"); password != nil {
		user.Password.Named = true
	}
	if hash := take(members, "password_hash"); hash != nil {
		user.Password.Named = true
		if *hash != "" {
			user.Password.Hash, user.Password.Mark = *hash, func(string) string { return *hash }
		}
	}
	for _, name := range userNotes {
		delete(members, name)
	}
	if value, ok := members["claims"]; ok {
		delete(members, "claims")
		user.OnlyTheseClaims = string(value) == "null"
		if err := json.Unmarshal(value, &user.Claims); err != nil {
			return user, fmt.Errorf("claims of user %q: %w", u.Username, err)
		}
		if user.Claims == nil {
			user.Claims = map[string]any{}
		}
	}
	for name, target := range map[string]**bool{"disabled": &user.Disabled, "administrator": &user.Administrator} {
		value, ok := members[name]
		if !ok {
			continue
		}
		delete(members, name)
		*target = new(bool) // null is false
		if err := json.Unmarshal(value, *target); err != nil {
			return user, fmt.Errorf("%s of user %q: %w", name, u.Username, err)
		}
	}
	for name, value := range members {
		var claim any
		if err := json.Unmarshal(value, &claim); err != nil {
			return user, fmt.Errorf("claims of user %q: %w", u.Username, err)
		}
		user.Claims[name] = claim
	}
	return user, nil
}

// isStandardClaim reports whether a claim has a member of its own in a declared user.
func isStandardClaim(name string) bool {
	for _, claims := range oauth.ScopeClaims {
		if slices.Contains(claims, name) {
			return true
		}
	}
	return false
}

// record returns the client as it is stored if it is new.
func (c Client) record() record.Client {
	r := record.Client{ID: c.ID, ClientMetadata: c.ClientMetadata, ClientSettings: c.ClientSettings}
	for _, secret := range []string{c.Secret, c.SecretNext} {
		if secret != "" {
			r.Secrets = append(r.Secrets, secret)
		}
	}
	if r.TokenEndpointAuthMethod == "" {
		r.TokenEndpointAuthMethod = declaration.DefaultAuthMethod(&r)
	}
	return r
}

// ofManagement reports whether a scope is one of the management API, which need no declaration.
func ofManagement(scope string) bool { return api.IsScope(scope) }

// checkRecord reports why a merged record must not be stored.
func checkRecord(merged any, known *declaration.Known) error {
	var errs []error
	refer := func(to map[string]bool, kind, name string) {
		if !to[name] {
			errs = append(errs, fmt.Errorf("the %s %q is not declared", kind, name))
		}
	}
	switch merged := merged.(type) {
	case record.Client:
		for _, problem := range authserver.CheckClient(merged) {
			errs = append(errs, errors.New(problem.String()))
		}
		asked, err := oauth.ParseScope(merged.Scope)
		if err != nil {
			break // one of the problems
		}
		for _, scope := range asked.Without(standardScopes) {
			if !ofManagement(scope) {
				refer(known.Scopes, declaration.KindScope, scope)
			}
		}
		for _, resource := range merged.Resources {
			if !strings.HasSuffix(resource, api.Path) { // the issuer is not known here
				refer(known.Resources, declaration.KindResource, resource)
			}
		}
	case record.Resource:
		for _, scope := range oauth.Scope(merged.Scopes).Without(standardScopes) {
			refer(known.Scopes, declaration.KindScope, scope)
		}
		for _, id := range merged.IntrospectionClients {
			refer(known.Clients, declaration.KindClient, id)
		}
		if merged.StatusList && merged.AccessTokenFormat == record.AccessTokenOpaque {
			errs = append(errs, errors.New("status_list: not supported for opaque tokens: their status is found by introspection"))
		}
	}
	return errors.Join(errs...)
}

var standardScopes = oauth.Scope{oauth.ScopeOpenID, oauth.ScopeProfile, oauth.ScopeEmail, oauth.ScopeAddress, oauth.ScopePhone, oauth.ScopeOfflineAccess}

// sections are the members of a configuration with declarations, in the order of Document.
var sections = [...]string{"clients", "users", "scopes", "resources"}

// bySection returns the members that each declaration names.
func (d *Declarations) bySection() (map[string][]declaration.Members, error) {
	all := map[string][]declaration.Members{}
	add := func(section, kind, name string, value any) error {
		members, err := d.named.members(kind, name, value)
		all[section] = append(all[section], members)
		return err
	}
	var errs []error
	for _, c := range d.Clients {
		errs = append(errs, add("clients", declaration.KindClient, c.ID, c))
	}
	for _, u := range d.Users {
		errs = append(errs, add("users", declaration.KindUser, u.Username, u))
	}
	for _, s := range d.Scopes {
		errs = append(errs, add("scopes", declaration.KindScope, s.Name, s))
	}
	for _, r := range d.Resources {
		errs = append(errs, add("resources", declaration.KindResource, r.Identifier, r))
	}
	return all, errors.Join(errs...)
}

// Document returns the declarations as JSON, in one form whatever the form of the file.
func (d *Declarations) Document() ([]byte, error) {
	bySection, err := d.bySection()
	if err != nil {
		return nil, err
	}
	var all []declaration.Members
	for _, section := range sections {
		all = append(all, bySection[section]...)
	}
	return json.Marshal(all)
}

// Encode returns the declarations for ParseDeclarations, with the secrets that were read from files.
func (d *Declarations) Encode() (json.RawMessage, error) {
	bySection, err := d.bySection()
	if err != nil {
		return nil, err
	}
	for _, list := range bySection {
		for _, members := range list {
			for _, name := range []string{"client_secret_file", "client_secret_next_file", "password_file"} {
				delete(members, name)
			}
		}
	}
	return json.Marshal(bySection)
}

// ParseDeclarations reads declarations from JSON that somebody else wrote. It reads no file and no
// environment variable.
func ParseDeclarations(document []byte) (Declarations, error) {
	var whole map[string]json.RawMessage
	if err := json.Unmarshal(document, &whole); err != nil {
		return Declarations{}, err
	}
	if whole == nil {
		return Declarations{}, errors.New("null is not an object")
	}
	for name := range whole {
		if !slices.Contains(sections[:], name) {
			return Declarations{}, fmt.Errorf("%q is not one of %s", name, strings.Join(sections[:], ", "))
		}
	}
	var c Configuration
	if err := decodeDocument(document, &c); err != nil {
		return Declarations{}, err
	}
	if len(c.SecretFiles()) > 0 {
		return Declarations{}, errors.New("files of the server are not read: send the secrets themselves")
	}
	return c.Declarations, c.Declarations.Validate()
}
