package console

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"slices"

	"github.com/valetkey/valetkey/manage/api"
)

type auditView struct {
	Records                        []auditRecord
	Actor, Subject, Client, Event  string
	Next                           string
	Live                           bool
	LiveURL, PauseURL, EarliestURL string
}

// auditRecord is a record with the members that differ.
type auditRecord struct {
	api.AuditRecord
	Changes []memberChange
}

// memberChange is a member of a record before and after a change, as JSON; "" if it was absent.
type memberChange struct{ Name, Before, After string }

// liveRefresh is how often the page of the latest records is loaded again, in seconds.
const liveRefresh = "5"

func (v *visit) showAudit(w http.ResponseWriter, r *http.Request) error {
	list := pageOf(r, "actor", "sub", "client_id", "event")
	found, err := v.api.Audit(r.Context(), list)
	if err != nil {
		return err
	}
	query := r.URL.Query()
	view := auditView{Actor: query.Get("actor"), Subject: query.Get("sub"), Client: query.Get("client_id"), Event: query.Get("event"), Next: v.nextURL("/audit", list, found.Next)}
	for _, record := range found.Records {
		view.Records = append(view.Records, auditRecord{record, changesOf(record)})
	}
	if view.Live = query.Has("live") && list.Cursor == ""; view.Live {
		w.Header().Set("Refresh", liveRefresh)
	}
	filter := list.Filter
	view.PauseURL = v.base + "/audit?" + filter.Encode()
	filter.Set("live", "1")
	view.LiveURL = v.base + "/audit?" + filter.Encode()
	return v.write(w, http.StatusOK, "audit", "Audit log", view)
}

// changesOf returns the members that a change set, in the order of their names.
func changesOf(record api.AuditRecord) []memberChange {
	names := slices.Sorted(maps.Keys(record.Before))
	for name := range record.After {
		if _, both := record.Before[name]; !both {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var changes []memberChange
	for _, name := range names {
		changes = append(changes, memberChange{name, compact(record.Before[name]), compact(record.After[name])})
	}
	return changes
}

// compact returns JSON in one line.
func compact(value json.RawMessage) string {
	var b bytes.Buffer
	if len(value) == 0 || json.Compact(&b, value) != nil {
		return ""
	}
	return b.String()
}
