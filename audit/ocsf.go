package audit

import (
	"encoding/json"
	"fmt"
	"strings"
)

// ocsfVersion is the version of the Open Cybersecurity Schema Framework (schema.ocsf.io) that OCSF
// follows.
const ocsfVersion = "1.5.0"

// The classes of OCSF that records have, and their categories.
const (
	ocsfAccountChange  = 3001
	ocsfAuthentication = 3002
	ocsfAPIActivity    = 6003

	ocsfIAM         = 3
	ocsfApplication = 6
)

// ocsfEvent is what OCSF says about an event: the class and the activity.
type ocsfEvent struct {
	class, activity int
	name            string
}

// ocsfEvents are the events that are not API Activity with an activity that follows from their names.
var ocsfEvents = map[string]ocsfEvent{
	"user.created":               {ocsfAccountChange, 1, "Create"},
	"user.enabled":               {ocsfAccountChange, 2, "Enable"},
	"user.restored":              {ocsfAccountChange, 2, "Enable"},
	"account.deletion_canceled":  {ocsfAccountChange, 2, "Enable"},
	"password.changed":           {ocsfAccountChange, 3, "Password Change"},
	"password.rehashed":          {ocsfAccountChange, 3, "Password Change"},
	"password.change_failed":     {ocsfAccountChange, 3, "Password Change"},
	"password.reset":             {ocsfAccountChange, 4, "Password Reset"},
	"password.reset_requested":   {ocsfAccountChange, 4, "Password Reset"},
	"user.recovered":             {ocsfAccountChange, 4, "Password Reset"},
	"user.recovery_link_created": {ocsfAccountChange, 4, "Password Reset"},
	"user.disabled":              {ocsfAccountChange, 5, "Disable"},
	"user.retired":               {ocsfAccountChange, 5, "Disable"},
	"account.deletion_requested": {ocsfAccountChange, 5, "Disable"},
	"user.deleted":               {ocsfAccountChange, 6, "Delete"},
	"user.role_changed":          {ocsfAccountChange, 7, "Attach Policy"},
	"account.locked_down":        {ocsfAccountChange, 9, "Lock"},
	"method.added":               {ocsfAccountChange, 10, "MFA Factor Enable"},
	"method.removed":             {ocsfAccountChange, 11, "MFA Factor Disable"},
	"account.unlocked":           {ocsfAccountChange, 12, "Unlock"},
	"user.updated":               {ocsfAccountChange, 99, "Other"},
	"username.changed":           {ocsfAccountChange, 99, "Other"},
	"email.changed":              {ocsfAccountChange, 99, "Other"},
	"method.change_undone":       {ocsfAccountChange, 99, "Other"},
	"external.linked":            {ocsfAccountChange, 99, "Other"},
	"external.unlinked":          {ocsfAccountChange, 99, "Other"},
	"user_code.set":              {ocsfAccountChange, 99, "Other"},
	"user_code.removed":          {ocsfAccountChange, 99, "Other"},
	"passkey.sign_count":         {ocsfAuthentication, 1, "Logon"},
	"sign_in.succeeded":          {ocsfAuthentication, 1, "Logon"},
	"sign_in.failed":             {ocsfAuthentication, 1, "Logon"},
	"sign_in.throttled":          {ocsfAuthentication, 1, "Logon"},
	"external.refused":           {ocsfAuthentication, 1, "Logon"},
	"session.ended":              {ocsfAuthentication, 2, "Logoff"},
	"session.all_ended":          {ocsfAuthentication, 2, "Logoff"},
	"recovery_code.used":         {ocsfAuthentication, 99, "Other"},
	"sign_in.requested":          {ocsfAuthentication, 6, "Preauth"},
	"token.replayed":             {ocsfAPIActivity, 4, "Delete"},
}

func ocsfOf(event string) ocsfEvent {
	if e, ok := ocsfEvents[event]; ok {
		return e
	}
	_, happened, _ := strings.Cut(event, ".")
	switch happened {
	case "created", "registered", "granted", "approved", "invited":
		return ocsfEvent{ocsfAPIActivity, 1, "Create"}
	case "deleted", "revoked", "removed", "dropped":
		return ocsfEvent{ocsfAPIActivity, 4, "Delete"}
	case "exported":
		return ocsfEvent{ocsfAPIActivity, 2, "Read"}
	case "refused", "authentication_failed", "left_out", "denied", "throttled":
		return ocsfEvent{ocsfAPIActivity, 99, "Other"}
	}
	return ocsfEvent{ocsfAPIActivity, 3, "Update"}
}

var ocsfClassNames = map[int]string{ocsfAccountChange: "Account Change", ocsfAuthentication: "Authentication", ocsfAPIActivity: "API Activity"}

// OCSF returns a record as an event of the Open Cybersecurity Schema Framework, in JSON: of the class
// Account Change, Authentication or API Activity. issuer names the server.
func (r *Record) OCSF(issuer string) ([]byte, error) {
	e := ocsfOf(r.Event)
	category, categoryName := ocsfIAM, "Identity & Access Management"
	if e.class == ocsfAPIActivity {
		category, categoryName = ocsfApplication, "Application Activity"
	}
	known := EventByName(r.Event)
	severity, severityName, status, statusName := 1, "Informational", 1, "Success"
	message := r.Event
	if known != nil {
		message = known.Meaning
		if known.Failed {
			severity, severityName, status, statusName = 2, "Low", 2, "Failure"
		}
	}
	event := map[string]any{
		"class_uid": e.class, "class_name": ocsfClassNames[e.class], "category_uid": category, "category_name": categoryName,
		"activity_id": e.activity, "activity_name": e.name, "type_uid": e.class*100 + e.activity,
		"type_name": ocsfClassNames[e.class] + ": " + e.name,
		"time":      r.Time.UnixMilli(), "severity_id": severity, "severity": severityName, "status_id": status, "status": statusName,
		"message": message,
		"metadata": map[string]any{
			"version": ocsfVersion, "uid": r.ID, "event_code": r.Event, "sequence": r.Sequence, "correlation_uid": r.Actor.Reference,
			"log_name": "audit", "product": map[string]any{"name": "Valetkey", "vendor_name": "Valetkey", "url_string": issuer},
		},
		"actor":    r.ocsfActor(),
		"unmapped": json.RawMessage(r.Text),
	}
	if endpoint := r.ocsfEndpoint(); endpoint != nil {
		event["src_endpoint"] = endpoint
	}
	switch e.class {
	case ocsfAccountChange, ocsfAuthentication:
		event["user"] = r.ocsfUser()
		if e.class == ocsfAuthentication {
			event["service"] = map[string]any{"name": "Valetkey", "uid": issuer}
			if r.Object.Kind == ObjectSession {
				event["session"] = map[string]any{"uid": r.Object.ID, "issuer": issuer}
			}
		}
	default:
		event["api"] = map[string]any{"operation": r.Event, "service": map[string]any{"name": "Valetkey", "uid": issuer}}
		if r.Object.Kind != "" {
			event["resources"] = []any{map[string]any{"type": r.Object.Kind, "uid": r.Object.ID, "name": r.Object.Name}}
		}
		if event["src_endpoint"] == nil { // required
			event["src_endpoint"] = map[string]any{"name": "unknown"}
		}
	}
	encoded, err := json.Marshal(event)
	if err != nil {
		return nil, fmt.Errorf("encode an audit record for OCSF: %w", err)
	}
	return encoded, nil
}

// ocsfActor returns who made the change. An actor has a user or an application.
func (r *Record) ocsfActor() map[string]any {
	a := &r.Actor
	switch a.Kind {
	case KindUser, KindOperator:
		user := map[string]any{"uid": a.ID, "name": a.Name, "type_id": 1, "type": "User"}
		if a.Kind == KindOperator {
			user["name"], user["type_id"], user["type"] = a.ID, 2, "Admin"
		}
		actor := map[string]any{"user": user}
		if a.ClientID != "" {
			actor["app_uid"] = a.ClientID
		}
		return actor
	case KindClient:
		return map[string]any{"app_uid": a.ID, "app_name": a.Name}
	}
	return map[string]any{"app_name": strings.TrimSpace(string(a.Kind) + " " + a.ID)}
}

// ocsfUser returns the user that the record is about.
func (r *Record) ocsfUser() map[string]any {
	user := map[string]any{"uid": r.Subject}
	name := r.Details["username"]
	if name == "" && (r.Object.Kind == ObjectUser || r.Object.Kind == ObjectSession) {
		name = r.Object.Name
	}
	if r.Subject == "" && name == "" {
		name = "unknown"
	}
	if name != "" {
		user["name"] = name
	}
	if r.Subject == "" {
		delete(user, "uid")
	}
	return user
}

func (r *Record) ocsfEndpoint() map[string]any {
	address := r.Actor.Address
	switch {
	case address == "":
		return nil
	case r.Actor.Kind == KindOperator || r.Actor.Kind == KindSystem || r.Actor.Kind == KindFile:
		return map[string]any{"hostname": address}
	}
	return map[string]any{"ip": address}
}

// JSONLine returns a record of the chain as one line of JSON, without the line break. record is the
// text from which the hash was computed, unchanged, except that the text of a foreign record may have
// line breaks: they are replaced, so that a part of it is not taken for another record.
func (r *Record) JSONLine() []byte {
	text := strings.NewReplacer("\n", " ", "\r", " ").Replace(r.Text)
	return fmt.Appendf(nil, `{"sequence":%d,"hash":"%x","foreign":%t,"record":%s}`, r.Sequence, r.Hash, r.Foreign, text)
}
