package manage

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/valetkey/valetkey/manage/api"
	"github.com/valetkey/valetkey/storage/sqldb"
)

func (a *API) registerExplanations() {
	register(a, api.ExplanationsRead, operation{id: "list-explanations", method: http.MethodGet, path: "/explanations", summary: "List refused requests with their checks, the newest first"}, a.listExplanations)
	register(a, api.ExplanationsRead, operation{id: "get-explanation", method: http.MethodGet, path: "/explanations/{reference}", summary: "Explain a refusal by its reference"}, a.getExplanation)
}

type listExplanationsInput struct {
	List
	ClientID string    `query:"client_id" maxLength:"512"`
	Endpoint string    `query:"endpoint" maxLength:"255" doc:"Path below the issuer, such as /token"`
	Error    string    `query:"error" maxLength:"255" doc:"Error code of the response"`
	Query    string    `query:"q" maxLength:"255" doc:"A text in the checks, such as a sub or a redirect URI, without case"`
	Since    time.Time `query:"since" doc:"Not before"`
	Until    time.Time `query:"until" doc:"Before"`
}

type listExplanationsOutput struct{ Body api.ExplanationPage }

func (a *API) listExplanations(ctx context.Context, _ *principal, in *listExplanationsInput) (*listExplanationsOutput, error) {
	query := strings.ToLower(in.Query)
	found, next, err := filtered(&in.List,
		func(after string, limit int) ([]sqldb.StoredTrace, error) {
			before := int64(0)
			if after != "" {
				var err error
				if before, err = strconv.ParseInt(after, 10, 64); err != nil || before <= 0 {
					return nil, huma.Error400BadRequest("the cursor is not one that this server returned")
				}
			}
			return a.config.Store.Traces(ctx, before, limit)
		},
		func(t *sqldb.StoredTrace) string { return strconv.FormatInt(t.Sequence, 10) },
		func(t *sqldb.StoredTrace) bool {
			if in.ClientID != "" && t.ClientID != in.ClientID || in.Endpoint != "" && t.Endpoint != in.Endpoint || in.Error != "" && t.Error != in.Error ||
				!in.Since.IsZero() && t.Time.Before(in.Since) || !in.Until.IsZero() && !t.Time.Before(in.Until) {
				return false
			}
			if query == "" {
				return true
			}
			text, err := json.Marshal(t.Trace)
			return err == nil && strings.Contains(strings.ToLower(string(text)), query)
		})
	if err != nil {
		return nil, err
	}
	page := api.ExplanationPage{Explanations: make([]api.Explanation, len(found)), Page: api.Page{Next: next}}
	for i := range found {
		page.Explanations[i] = api.Explanation{Trace: found[i].Trace}
		page.Explanations[i].Checks = notNil(page.Explanations[i].Checks)
	}
	return &listExplanationsOutput{page}, nil
}

type getExplanationInput struct {
	Reference string `path:"reference" maxLength:"64"`
}

type getExplanationOutput struct{ Body api.Explanation }

func (a *API) getExplanation(ctx context.Context, _ *principal, in *getExplanationInput) (*getExplanationOutput, error) {
	t, err := a.config.Engine.Trace(ctx, strings.ToUpper(in.Reference))
	if err != nil {
		return nil, fmt.Errorf("find an explanation: %w", err)
	}
	t.Checks = notNil(t.Checks)
	return &getExplanationOutput{api.Explanation{Trace: *t}}, nil
}
