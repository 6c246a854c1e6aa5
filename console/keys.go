package console

import (
	"net/http"
	"slices"
	"time"

	"github.com/valetkey/valetkey/manage/api"
)

// keyView is a key with its place in the timeline.
type keyView struct {
	api.Key
	// ReplacedAt is when a newer key of the same algorithm signs instead; nil if none does or will.
	ReplacedAt *time.Time
	MayRetire  bool
	Phases     []keyPhase
}

// keyPhase is a part of a key's bar. From and Length are in thousandths of the timeline.
type keyPhase struct {
	Name         string // published, active or replaced
	From, Length int
}

type keysView struct {
	Keys []keyView
	// From, Now and Until are the ends of the timeline and the position of the present in it.
	From, Until time.Time
	Now         int
	MayRotate   bool
}

// timelineBack and timelineAhead limit the timeline: keys can be years old.
const (
	timelineBack  = 90 * 24 * time.Hour
	timelineAhead = 7 * 24 * time.Hour
)

func timelineOf(keys []api.Key, now time.Time, mayRotate bool) keysView {
	view := keysView{From: now.Add(-time.Hour), Until: now.Add(timelineAhead), MayRotate: mayRotate}
	for i := range keys {
		if keys[i].CreatedAt.Before(view.From) {
			view.From = keys[i].CreatedAt
		}
		if end := keys[i].PublishedUntil; end != nil && end.After(view.Until) {
			view.Until = *end
		}
		if keys[i].SignsFrom.After(view.Until) {
			view.Until = keys[i].SignsFrom
		}
	}
	if oldest := now.Add(-timelineBack); view.From.Before(oldest) {
		view.From = oldest
	}
	place := func(t time.Time) int {
		return min(max(int(1000*t.Sub(view.From)/view.Until.Sub(view.From)), 0), 1000)
	}
	view.Now = place(now)
	for i := range keys {
		shown := keyView{Key: keys[i], MayRetire: mayRotate && keys[i].Status == "replaced"}
		for j := range keys {
			next := keys[j].SignsFrom
			if keys[j].Algorithm == keys[i].Algorithm && next.After(keys[i].SignsFrom) && (shown.ReplacedAt == nil || next.Before(*shown.ReplacedAt)) {
				shown.ReplacedAt = &next
			}
		}
		end := view.Until
		if keys[i].PublishedUntil != nil {
			end = *keys[i].PublishedUntil
		}
		signsUntil := end
		if shown.ReplacedAt != nil {
			signsUntil = *shown.ReplacedAt
		}
		for _, phase := range [...]struct {
			name        string
			from, until time.Time
		}{{"published", keys[i].CreatedAt, keys[i].SignsFrom}, {"active", keys[i].SignsFrom, signsUntil}, {"replaced", signsUntil, end}} {
			if from, until := place(phase.from), place(phase.until); until > from {
				shown.Phases = append(shown.Phases, keyPhase{phase.name, from, until - from})
			}
		}
		view.Keys = append(view.Keys, shown)
	}
	return view
}

func (v *visit) showKeys(w http.ResponseWriter, r *http.Request) error {
	list, err := v.api.Keys(r.Context())
	if err != nil {
		return err
	}
	return v.write(w, http.StatusOK, "keys", "Keys", timelineOf(list.Keys, time.Now(), v.may(api.KeysWrite)))
}

type rotateView struct {
	Algorithms []string
	Algorithm  string
	When       string // schedule, now or revoke
	Problems   []string
}

func (v *visit) showRotateKeys(w http.ResponseWriter, r *http.Request) error {
	return v.writeRotateKeys(w, r, http.StatusOK, rotateView{When: "schedule"})
}

func (v *visit) writeRotateKeys(w http.ResponseWriter, r *http.Request, status int, view rotateView) error {
	list, err := v.api.Keys(r.Context())
	if err != nil {
		return err
	}
	for i := range list.Keys {
		if !slices.Contains(view.Algorithms, list.Keys[i].Algorithm) {
			view.Algorithms = append(view.Algorithms, list.Keys[i].Algorithm)
		}
	}
	return v.write(w, status, "key-rotate", "Replace keys", view)
}

func (v *visit) rotateKeys(w http.ResponseWriter, r *http.Request) error {
	view := rotateView{Algorithm: r.PostForm.Get("alg"), When: r.PostForm.Get("when")}
	rotation := api.Rotation{Algorithm: view.Algorithm, Now: view.When != "schedule", Revoke: view.When == "revoke"}
	if !slices.Contains([]string{"schedule", "now", "revoke"}, view.When) {
		view.Problems = []string{"Choose when the new key signs."}
		return v.writeRotateKeys(w, r, http.StatusUnprocessableEntity, view)
	}
	if _, err := v.api.RotateKeys(r.Context(), rotation, api.Change{}); err != nil {
		problems, status := problemsOf(err)
		if problems == nil {
			return err
		}
		view.Problems = problems
		return v.writeRotateKeys(w, r, status, view)
	}
	return v.done(w, "/keys", "keys-rotated")
}

var errNoKey = &api.Problem{Status: http.StatusNotFound, Title: "not found"}

func (v *visit) showRetireKey(w http.ResponseWriter, r *http.Request) error {
	list, err := v.api.Keys(r.Context())
	if err != nil {
		return err
	}
	id := r.URL.Query().Get("id")
	for i := range list.Keys {
		if list.Keys[i].ID == id {
			return v.writeConfirm(w, confirmView{
				ID: id, Title: "Remove the key " + id + "?", Cancel: v.base + "/keys", Button: "Remove the key now",
				Text: "It is removed from the key set at once: nothing that it signed is valid any longer, such as ID tokens and access tokens. Without this, it is removed by itself when everything that it signed has expired.",
			})
		}
	}
	return errNoKey
}

func (v *visit) retireKey(w http.ResponseWriter, r *http.Request) error {
	if err := v.api.RetireKey(r.Context(), r.PostForm.Get("id"), api.Change{}); err != nil {
		return err
	}
	return v.done(w, "/keys", "key-retired")
}
