package console

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/valetkey/valetkey/manage/api"
)

// waitingURI is the redirect URI of a client whose own is not known yet. The API requires one, and nobody
// can have a host below .invalid (RFC 2606, section 2).
const waitingURI = "https://first-request.invalid/"

// waiting reports whether a client waits for its first request.
func waiting(m api.ClientMembers) bool { return slices.Contains(m.RedirectURIs, waitingURI) }

// waitedFor is how far back a request may be that the page shows.
const waitedFor = 15 * time.Minute

type waitView struct {
	ID, ETag, Name string
	Requests       []waitRequest
	Scope          string
	Waiting        bool // no redirect URI is known
	Issuer         string
}

// waitRequest is a redirect URI that a refused request had, with the scopes that the client would need.
type waitRequest struct {
	RedirectURI string
	Scope       string // as requested
	Missing     string // scopes that the client may not ask for yet
	Count       int
	Time        time.Time
	Ref         string
}

// showWait shows the refused requests of a client, newest first. Until there is one, the browser loads the
// page again every few seconds.
// Nothing is accepted before the operator says so.
func (v *visit) showWait(w http.ResponseWriter, r *http.Request) error {
	client, err := v.api.Client(r.Context(), r.URL.Query().Get("id"))
	if err != nil {
		return err
	}
	since := time.Now().Add(-waitedFor)
	if after, err := time.Parse(time.RFC3339Nano, r.URL.Query().Get("after")); err == nil && after.After(since) {
		since = after
	}
	list := api.List{Limit: 100, Filter: url.Values{"client_id": {client.ID}, "since": {since.UTC().Format(time.RFC3339Nano)}}}
	found, err := v.api.Explanations(r.Context(), list)
	if err != nil {
		return err
	}
	view := waitView{ID: client.ID, ETag: client.ETag, Name: nameOf(client), Scope: client.Scope, Waiting: waiting(client.ClientMembers), Issuer: v.config.Issuer}
	for i := range found.Explanations {
		e := &found.Explanations[i]
		if e.RedirectURI == "" || slices.Contains(client.RedirectURIs, e.RedirectURI) || !e.Time.After(since) {
			continue
		}
		same := slices.IndexFunc(view.Requests, func(q waitRequest) bool { return q.RedirectURI == e.RedirectURI && q.Scope == e.Scope })
		if same >= 0 {
			view.Requests[same].Count++
			continue
		}
		if len(view.Requests) < 10 {
			view.Requests = append(view.Requests, waitRequest{e.RedirectURI, e.Scope, missingScope(client.Scope, e.Scope), 1, e.Time, e.Ref})
		}
	}
	if len(view.Requests) == 0 { // what is shown must not change while the operator decides
		w.Header().Set("Refresh", "5")
	}
	return v.write(w, http.StatusOK, "wait", "Wait for the first request of "+view.Name, view)
}

// missingScope returns the scopes of a request that a client may not ask for. A client without a scope may
// ask for every one.
func missingScope(allowed, requested string) string {
	if allowed == "" {
		return ""
	}
	var missing []string
	for name := range strings.FieldsSeq(requested) {
		if !slices.Contains(strings.Fields(allowed), name) && !slices.Contains(missing, name) {
			missing = append(missing, name)
		}
	}
	return strings.Join(missing, " ")
}

// answerRequest adds a redirect URI to a client, or hides the requests so far.
func (v *visit) answerRequest(w http.ResponseWriter, r *http.Request) error {
	id := r.PostForm.Get("id")
	if r.PostForm.Get("answer") != "accept" {
		return v.redirect(w, at("/client/wait", id)+"&after="+url.QueryEscape(time.Now().UTC().Format(time.RFC3339Nano)))
	}
	client, err := v.api.Client(r.Context(), id)
	if err != nil {
		return err
	}
	members := client.ClientMembers
	members.RedirectURIs = slices.DeleteFunc(slices.Clone(members.RedirectURIs), func(uri string) bool { return uri == waitingURI })
	if uri := r.PostForm.Get("redirect_uri"); !slices.Contains(members.RedirectURIs, uri) {
		members.RedirectURIs = append(members.RedirectURIs, uri)
	}
	if scope := r.PostForm.Get("scope"); scope != "" && r.PostForm.Has("add_scope") {
		if missing := missingScope(members.Scope, scope); missing != "" {
			members.Scope += " " + missing
		}
	}
	if _, err := v.api.UpdateClient(r.Context(), id, r.PostForm.Get("etag"), &members, api.Change{}); err != nil {
		return err
	}
	return v.done(w, at("/client", id), "request-accepted")
}
