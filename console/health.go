package console

import (
	"net/http"

	"github.com/valetkey/valetkey/manage/api"
)

type healthView struct {
	*api.Health
	Checks *api.HealthChecks
	// Sound is set if the checks have ended and found nothing.
	Sound bool
	// Requests and Records are the latest, if the user may see them.
	Requests []api.Explanation
	Records  []api.AuditRecord
}

// healthRefresh is how soon the page is loaded again while the checks run, in seconds.
const healthRefresh = "5"

func (v *visit) showHealth(w http.ResponseWriter, r *http.Request) error {
	health, err := v.api.Health(r.Context())
	if err != nil {
		return err
	}
	view := healthView{Health: health}
	if view.Checks, err = v.api.HealthChecks(r.Context()); err != nil {
		return err
	}
	view.Sound = view.Checks.Healthy()
	latest := api.List{Limit: 10}
	if v.may(api.ExplanationsRead) {
		found, err := v.api.Explanations(r.Context(), latest)
		if err != nil {
			return err
		}
		view.Requests = found.Explanations
	}
	if v.may(api.AuditRead) {
		found, err := v.api.Audit(r.Context(), latest)
		if err != nil {
			return err
		}
		view.Records = found.Records
	}
	if view.Checks.Running {
		w.Header().Set("Refresh", healthRefresh)
	}
	return v.write(w, http.StatusOK, "health", "Health", view)
}
