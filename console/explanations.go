package console

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/valetkey/valetkey/manage/api"
)

const noSuchUser = "There is no user with this name, email address or sub."

type explanationsView struct {
	Explanations []api.Explanation
	// The filters, as they were entered.
	Query, ClientID, User, Outcome, Since, Until string
	Problem, Next                                string
	Recordings                                   []api.Recording
	MayRecord                                    bool
}

// showExplanations lists requests with their checks. A reference leads to its request.
func (v *visit) showExplanations(w http.ResponseWriter, r *http.Request) error {
	form := r.URL.Query()
	view := explanationsView{
		Query: strings.Trim(form.Get("q"), " ()"), ClientID: form.Get("client_id"), User: strings.TrimSpace(form.Get("user")), Outcome: form.Get("outcome"),
		Since: form.Get("since"), Until: form.Get("until"), MayRecord: v.may(api.ExplanationsWrite),
	}
	if len(view.Query) == 9 && view.Query[4] == '-' {
		if found, err := v.api.Explanation(r.Context(), view.Query); err == nil {
			return v.redirect(w, at("/explanation", found.Ref))
		}
	}
	list := pageOf(r, "q", "client_id", "outcome")
	for name, value := range map[string]string{"since": view.Since, "until": view.Until} {
		if value == "" {
			continue
		}
		moment, ok := timeOf(value)
		if !ok {
			view.Problem = "The time is not valid: enter it like 2026-11-27T08:00, in UTC."
			continue
		}
		list.Filter.Set(name, moment)
	}
	if view.User != "" {
		user, err := v.userNamed(r, view.User)
		if err != nil {
			return err
		}
		if user == nil {
			view.Problem = noSuchUser
		} else {
			list.Filter.Set("sub", user.ID)
		}
	}
	recordings, err := v.api.Recordings(r.Context())
	if err != nil {
		return err
	}
	view.Recordings = recordings.Recordings
	if view.Problem != "" {
		return v.write(w, http.StatusUnprocessableEntity, "explanations", "Requests", view)
	}
	found, err := v.api.Explanations(r.Context(), list)
	if err != nil {
		return err
	}
	view.Explanations = found.Explanations
	if view.Next = v.nextURL("/explanations", list, found.Next); view.Next != "" {
		view.Next += "&" + url.Values{"user": {view.User}}.Encode()
	}
	return v.write(w, http.StatusOK, "explanations", "Requests", view)
}

// timeOf returns a time of a form, or of a link to the next page, as the management API expects it.
func timeOf(entered string) (string, bool) {
	for _, layout := range []string{"2006-01-02T15:04", time.RFC3339} {
		if t, err := time.Parse(layout, entered); err == nil {
			return t.UTC().Format(time.RFC3339), true
		}
	}
	return "", false
}

func (v *visit) showExplanation(w http.ResponseWriter, r *http.Request) error {
	found, err := v.api.Explanation(r.Context(), r.URL.Query().Get("id"))
	if err != nil {
		return err
	}
	title := "Refused request "
	if found.Accepted() {
		title = "Accepted request "
	}
	return v.write(w, http.StatusOK, "explanation", title+found.Ref, found)
}

// beginRecording records the accepted requests of a client, a user, or both.
func (v *visit) beginRecording(w http.ResponseWriter, r *http.Request) error {
	wanted := api.NewRecording{ClientID: strings.TrimSpace(r.PostForm.Get("client_id"))}
	if err := wanted.Lifetime.UnmarshalText([]byte(r.PostForm.Get("lifetime"))); err != nil {
		wanted.Lifetime = 0 // the default
	}
	if user := strings.TrimSpace(r.PostForm.Get("user")); user != "" {
		found, err := v.userNamed(r, user)
		if err != nil {
			return err
		}
		if found == nil {
			return &api.Problem{Status: http.StatusNotFound, Title: noSuchUser}
		}
		wanted.Subject = found.ID
	}
	if _, err := v.api.CreateRecording(r.Context(), wanted, api.Change{}); err != nil {
		return err
	}
	return v.done(w, "/explanations", "recording-began")
}

func (v *visit) endRecording(w http.ResponseWriter, r *http.Request) error {
	if err := v.api.EndRecording(r.Context(), r.PostForm.Get("id"), api.Change{}); err != nil {
		return err
	}
	return v.done(w, "/explanations", "recording-ended")
}
