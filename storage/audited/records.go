package audited

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strconv"
	"time"

	"github.com/valetkey/valetkey/audit"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/declaration"
	"github.com/valetkey/valetkey/storage/record"
)

// Client returns the audit record of a change of a client; nil if nothing changed but when the
// client is removed if it is not used. before is nil for a new client, after for one that was deleted.
func Client(before, after *record.Client) *audit.Record {
	client := after
	if client == nil {
		client = before
	}
	r := &audit.Record{Object: audit.Object{Kind: audit.ObjectClient, ID: client.ID, Name: client.ClientName}, ClientID: client.ID}
	switch {
	case before == nil:
		r.Event = choose(after.Registration != nil, "client.registered", "client.created")
		compare(r, nil, clientMembers(after, nil))
		return r
	case after == nil:
		r.Event = "client.deleted"
		compare(r, clientMembers(before, nil), nil)
		return r
	}
	if !compare(r, clientMembers(before, before), clientMembers(after, before)) {
		return nil
	}
	_, secret := r.After["client_secret"]
	_, noSecret := r.Before["client_secret"]
	switch {
	case before.Disabled != after.Disabled:
		r.Event = choose(after.Disabled, "client.disabled", "client.enabled")
	case before.RetiredAt.IsZero() != after.RetiredAt.IsZero():
		r.Event = choose(after.RetiredAt.IsZero(), "client.restored", "client.retired")
	case secret || noSecret:
		r.Event = "client.secret_changed"
	default:
		r.Event = "client.updated"
	}
	return r
}

// leftOut are members of a client, as JSON, that the log does not show. Those of a registration are
// replaced below.
var leftOut = []string{"registration", "jwks", "client_id"}

// clientMembers returns what the log shows of a client: its metadata, which are public, and its
// settings.
func clientMembers(c, before *record.Client) members {
	m := members{}
	if before == nil {
		before = &record.Client{}
	}
	encoded, err := json.Marshal(c)
	if err == nil {
		var all map[string]json.RawMessage
		if err = json.Unmarshal(encoded, &all); err == nil {
			for name, value := range all {
				if !slices.Contains(leftOut, name) {
					m.set(name, value)
				}
			}
		}
	}
	if err != nil {
		m.set("error", "the client cannot be encoded")
	}
	if len(c.JWKS) > 0 {
		m.set("jwks", keySet(c.JWKS))
	}
	m.secret("client_secret", secrets(c), secrets(before))
	if len(c.Secrets) > 1 {
		m.set("client_secrets", len(c.Secrets))
	}
	m.setTime("retired_at", c.RetiredAt)
	m.setTime("ended_at", c.EndedAt)
	if r := c.Registration; r != nil {
		registration := members{}
		registration.setTime("created_at", r.CreatedAt)
		registration.set("localized", r.Localized)
		registration.set("initial", r.Initial)
		registration.set("vouched", r.Vouched)
		m.set("registration", registration)
		old := ""
		if before.Registration != nil {
			old = string(before.Registration.TokenHash)
		}
		m.secret("registration_access_token", string(r.TokenHash), old)
	}
	return m
}

// secrets returns one text for all secrets, for comparison only.
func secrets(c *record.Client) string {
	if len(c.Secrets) == 0 {
		return ""
	}
	encoded, err := json.Marshal(c.Secrets)
	if err != nil { // strings always encode
		return ""
	}
	return string(encoded)
}

// shownKeys is what the log shows of a client's keys: the document itself may contain anything.
type shownKeys struct {
	Keys   []string `json:"kids"`
	Digest string   `json:"sha256"`
}

func keySet(document json.RawMessage) shownKeys {
	digest := sha256.Sum256(document)
	shown := shownKeys{Digest: hex.EncodeToString(digest[:])}
	var set struct {
		Keys []struct {
			ID string `json:"kid"`
		} `json:"keys"`
	}
	if json.Unmarshal(document, &set) == nil {
		for _, key := range set.Keys {
			shown.Keys = append(shown.Keys, key.ID)
		}
	}
	return shown
}

// Scope returns the audit record of a change of a scope; nil if nothing changed.
func Scope(before, after *declaration.Row[record.Scope]) *audit.Record {
	row := either(after, before)
	return compareRows(audit.Object{Kind: audit.ObjectScope, ID: row.Record.Name}, before, after)
}

// Resource returns the audit record of a change of a resource; nil if nothing changed.
func Resource(before, after *declaration.Row[record.Resource]) *audit.Record {
	row := either(after, before)
	return compareRows(audit.Object{Kind: audit.ObjectResource, ID: row.Record.Identifier, Name: row.Record.Name}, before, after)
}

// either returns the side of a change that exists.
func either[T any](a, b *T) *T {
	if a != nil {
		return a
	}
	return b
}

// compareRows compares records without secrets.
func compareRows[T any](object audit.Object, before, after *declaration.Row[T]) *audit.Record {
	r := &audit.Record{Object: object}
	if !compare(r, rowMembers(before), rowMembers(after)) {
		return nil
	}
	switch {
	case before == nil:
		r.Event = object.Kind + ".created"
	case after == nil:
		r.Event = object.Kind + ".deleted"
	case before.RetiredAt.IsZero() != after.RetiredAt.IsZero():
		r.Event = object.Kind + choose(after.RetiredAt.IsZero(), ".restored", ".retired")
	default:
		r.Event = object.Kind + ".updated"
	}
	return r
}

func rowMembers[T any](row *declaration.Row[T]) members {
	if row == nil {
		return nil
	}
	m := members{}
	m.setTime("retired_at", row.RetiredAt)
	encoded, err := json.Marshal(row.Record)
	var all map[string]json.RawMessage
	if err == nil {
		err = json.Unmarshal(encoded, &all)
	}
	if err != nil {
		m.set("error", "the record cannot be encoded")
	}
	for name, v := range all {
		m.set(name, v)
	}
	return m
}

// Grant returns the audit record of a change of a grant; nil if nothing changed but its time. before
// is nil for a new grant, after for one that was deleted.
func Grant(before, after *record.Grant) *audit.Record {
	g := either(after, before)
	r := &audit.Record{Object: audit.Object{Kind: audit.ObjectGrant, ID: g.ID}, Subject: g.Subject, ClientID: g.ClientID}
	if !compare(r, grantMembers(before), grantMembers(after)) && before != nil && after != nil {
		return nil
	}
	switch {
	case after == nil:
		r.Event = "consent.revoked"
	case before == nil, grants(before, after):
		r.Event = "consent.granted"
	default:
		r.Event = "consent.changed"
	}
	return r
}

// grants reports whether a change grants anything that was not granted before.
func grants(before, after *record.Grant) bool {
	return slices.ContainsFunc(after.Scope, func(s string) bool { return !before.Scope.Has(s) }) ||
		slices.ContainsFunc(after.Resources, func(r string) bool { return !slices.Contains(before.Resources, r) }) ||
		lastDetail(after).After(lastDetail(before))
}

func grantMembers(g *record.Grant) members {
	if g == nil {
		return nil
	}
	m := members{}
	m.set("scope", sorted(g.Scope))
	m.set("declined", sorted(g.Declined))
	m.set("resources", g.Resources)
	m.setTime("authorization_details_at", lastDetail(g))
	return m
}

// lastDetail returns when the user allowed authorization details last; zero if never. What they are is
// left out: they may have bank accounts or diagnoses in them.
func lastDetail(g *record.Grant) time.Time {
	if n := len(g.Details.Latest); n > 0 {
		return g.Details.Latest[n-1].At
	}
	return time.Time{}
}

func sorted(s oauth.Scope) []string { return slices.Sorted(slices.Values(s)) }

// Keys returns the audit records of a change of keys, one for each key that changed.
func Keys(before, after []record.Key) []audit.Record {
	find := func(keys []record.Key, id string) *record.Key {
		if i := slices.IndexFunc(keys, func(k record.Key) bool { return k.ID == id }); i >= 0 {
			return &keys[i]
		}
		return nil
	}
	var records []audit.Record
	add := func(id, event string, old, current *record.Key) {
		r := audit.Record{Event: event, Object: audit.Object{Kind: audit.ObjectKey, ID: id}}
		if compare(&r, keyMembers(old), keyMembers(current)) {
			records = append(records, r)
		}
	}
	for i := range before {
		if find(after, before[i].ID) == nil {
			add(before[i].ID, "signing_key.removed", &before[i], nil)
		}
	}
	for i := range after {
		old := find(before, after[i].ID)
		if old == nil {
			add(after[i].ID, "signing_key.created", nil, &after[i])
		} else {
			add(after[i].ID, "signing_key.updated", old, &after[i])
		}
	}
	return records
}

func keyMembers(k *record.Key) members {
	if k == nil {
		return nil
	}
	m := members{}
	m.set("algorithm", k.Algorithm)
	m.setTime("created_at", k.CreatedAt)
	m.setTime("signs_from", k.SignsFrom)
	m.setTime("published_until", k.PublishedUntil)
	return m
}

// Declarations returns the audit record of an application of declarations.
func Declarations(source string, changes int) *audit.Record {
	return &audit.Record{
		Event: "declarations.applied", Object: audit.Object{Kind: audit.ObjectDeclaration, ID: source},
		Details: map[string]string{"changes": strconv.Itoa(changes)},
	}
}
