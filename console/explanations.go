package console

import (
	"net/http"
	"strings"

	"github.com/valetkey/valetkey/manage/api"
)

type explanationsView struct {
	Explanations             []api.Explanation
	Query, ClientID, Problem string
	Next                     string
}

// showExplanations lists refused requests. A reference leads to its request.
func (v *visit) showExplanations(w http.ResponseWriter, r *http.Request) error {
	query := strings.Trim(r.URL.Query().Get("q"), " ()")
	if len(query) == 9 && query[4] == '-' {
		if found, err := v.api.Explanation(r.Context(), query); err == nil {
			return v.redirect(w, at("/explanation", found.Ref))
		}
	}
	list := pageOf(r, "q", "client_id")
	found, err := v.api.Explanations(r.Context(), list)
	if err != nil {
		return err
	}
	return v.write(w, http.StatusOK, "explanations", "Refused requests", explanationsView{
		Explanations: found.Explanations, Query: query, ClientID: r.URL.Query().Get("client_id"), Next: v.nextURL("/explanations", list, found.Next),
	})
}

func (v *visit) showExplanation(w http.ResponseWriter, r *http.Request) error {
	found, err := v.api.Explanation(r.Context(), r.URL.Query().Get("id"))
	if err != nil {
		return err
	}
	return v.write(w, http.StatusOK, "explanation", "Refused request "+found.Ref, found)
}
