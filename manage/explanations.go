package manage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/manage/api"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/sqldb"
)

func (a *API) registerExplanations() {
	register(a, api.ExplanationsRead, operation{id: "list-explanations", method: http.MethodGet, path: "/explanations", summary: "List requests with their checks, refused and accepted ones, the newest first"}, a.listExplanations)
	register(a, api.ExplanationsRead, operation{id: "get-explanation", method: http.MethodGet, path: "/explanations/{reference}", summary: "Explain a request by its reference"}, a.getExplanation)
	register(a, api.ExplanationsRead, operation{id: "list-recordings", method: http.MethodGet, path: "/recordings", summary: "List the recordings of accepted requests that have not ended"}, a.listRecordings)
	register(a, api.ExplanationsWrite, operation{id: "create-recording", method: http.MethodPost, path: "/recordings", summary: "Record every accepted request of a client or user for a while", status: http.StatusCreated}, a.createRecording)
	register(a, api.ExplanationsWrite, operation{id: "end-recording", method: http.MethodDelete, path: "/recordings/{recording}", summary: "End a recording"}, a.endRecording)
}

type listExplanationsInput struct {
	List
	ClientID string    `query:"client_id" maxLength:"512"`
	Subject  string    `query:"sub" maxLength:"255" doc:"The user whom the request was about"`
	Outcome  string    `query:"outcome" enum:"accepted,refused" doc:"Only these. All refused requests are kept, and of accepted ones a sample and what was recorded"`
	Endpoint string    `query:"endpoint" maxLength:"255" doc:"Path below the issuer, such as /token"`
	Error    string    `query:"error" maxLength:"255" doc:"Error code of the response"`
	Query    string    `query:"q" maxLength:"255" doc:"A text in the checks, such as a redirect URI, without case"`
	Since    time.Time `query:"since" doc:"Not before"`
	Until    time.Time `query:"until" doc:"Before"`
}

type listExplanationsOutput struct{ Body api.ExplanationPage }

func (a *API) listExplanations(ctx context.Context, _ *principal, in *listExplanationsInput) (*listExplanationsOutput, error) {
	query := strings.ToLower(in.Query)
	filter := sqldb.TraceFilter{ClientID: in.ClientID, Subject: in.Subject, Outcome: in.Outcome, Since: in.Since, Until: in.Until}
	found, next, err := filtered(&in.List,
		func(after string, limit int) ([]sqldb.StoredTrace, error) {
			before := int64(0)
			if after != "" {
				var err error
				if before, err = strconv.ParseInt(after, 10, 64); err != nil || before <= 0 {
					return nil, huma.Error400BadRequest("the cursor is not one that this server returned")
				}
			}
			return a.config.Store.Traces(ctx, filter, before, limit)
		},
		func(t *sqldb.StoredTrace) string { return strconv.FormatInt(t.Sequence, 10) },
		func(t *sqldb.StoredTrace) bool {
			if in.Endpoint != "" && t.Endpoint != in.Endpoint || in.Error != "" && t.Error != in.Error {
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

type listRecordingsOutput struct{ Body api.RecordingList }

func (a *API) listRecordings(ctx context.Context, _ *principal, _ *struct{}) (*listRecordingsOutput, error) {
	found, err := a.config.Engine.Recordings(ctx, time.Now())
	if err != nil {
		return nil, err
	}
	list := api.RecordingList{Recordings: make([]api.Recording, len(found))}
	for i := range found {
		list.Recordings[i] = *recordingOf(&found[i])
	}
	slices.SortFunc(list.Recordings, func(a, b api.Recording) int { return a.BeganAt.Compare(b.BeganAt) })
	return &listRecordingsOutput{list}, nil
}

func recordingOf(r *authserver.Recording) *api.Recording {
	return &api.Recording{ID: r.ID, ClientID: r.ClientID, Subject: r.Subject, BeganAt: r.Began.UTC(), ExpiresAt: r.Until.UTC()}
}

// defaultRecording is how long a recording lasts if the request does not say.
const defaultRecording = 10 * time.Minute

type createRecordingInput struct {
	Change
	Body api.NewRecording
}

type recordingOutput struct{ Body *api.Recording }

func (a *API) createRecording(ctx context.Context, _ *principal, in *createRecordingInput) (*recordingOutput, error) {
	lifetime := time.Duration(in.Body.Lifetime)
	switch {
	case in.Body.ClientID == "" && in.Body.Subject == "":
		return nil, huma.Error422UnprocessableEntity("say whose requests to record", &huma.ErrorDetail{Location: "body", Message: "client_id or sub is required"})
	case lifetime == 0:
		lifetime = defaultRecording
	case lifetime < time.Second || lifetime > authserver.MaxRecordingTime:
		return nil, huma.Error422UnprocessableEntity("the lifetime is not valid", &huma.ErrorDetail{Location: "body.lifetime", Message: "must be between 1s and 1h"})
	}
	if in.Body.ClientID != "" && !oauth.IsClientIDURL(in.Body.ClientID) { // a client with a metadata document has no record
		if _, err := a.client(ctx, in.Body.ClientID); err != nil {
			return nil, err
		}
	}
	if in.Body.Subject != "" {
		if _, err := a.config.Store.User(ctx, in.Body.Subject); err != nil {
			return nil, err
		}
	}
	now := time.Now()
	wanted := authserver.Recording{ClientID: in.Body.ClientID, Subject: in.Body.Subject, Began: now, Until: now.Add(lifetime)}
	if in.DryRun {
		return &recordingOutput{recordingOf(&wanted)}, nil
	}
	began, err := a.config.Engine.Record(ctx, now, wanted)
	if errors.Is(err, authserver.ErrTooManyRecordings) {
		return nil, huma.Error409Conflict("there are too many recordings at the same time: end one first")
	}
	if err != nil {
		return nil, err
	}
	return &recordingOutput{recordingOf(began)}, nil
}

type recordingInput struct {
	Change
	ID string `path:"recording" maxLength:"64"`
}

func (a *API) endRecording(ctx context.Context, _ *principal, in *recordingInput) (*struct{}, error) {
	return nil, a.config.Engine.EndRecording(ctx, time.Now(), in.ID, in.DryRun)
}
