package manage

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
)

// problem turns the error of an operation into one for the caller. What is not meant for the caller is
// logged under a reference.
func (a *API) problem(ctx context.Context, operation string, err error) error {
	if e, ok := errors.AsType[*huma.ErrorModel](err); ok {
		return e
	}
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return huma.Error404NotFound("there is no such record")
	case errors.Is(err, storage.ErrExists):
		return huma.Error409Conflict("there is already a record with this ID")
	case errors.Is(err, identity.ErrIdentifierTaken):
		return huma.Error409Conflict("the username or email address belongs to another user")
	case errors.Is(err, identity.ErrLastMethod):
		return huma.Error409Conflict("the user could not sign in anymore: disable the user instead, or hand over a recovery link with which the user sets up another means to sign in")
	case errors.Is(err, identity.ErrLastAdministrator):
		return huma.Error409Conflict("the user is the last administrator: make another user an administrator first")
	case errors.Is(err, storage.ErrUnavailable), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		a.log.WarnContext(ctx, "management request failed", "operation", operation, "error", err)
		return huma.Error503ServiceUnavailable("the server is busy or cannot reach its database; try again")
	}
	ref := rand.Text()[:8]
	a.log.ErrorContext(ctx, "management request failed", "operation", operation, "ref", ref, "error", err)
	return huma.Error500InternalServerError("the request failed; the log has the reason under the reference " + ref)
}

// refuse responds to a request whose sender could not be identified.
func (a *API) refuse(ctx context.Context, w http.ResponseWriter, err error) {
	if e := oauth.AsError(err); e != nil {
		status := e.HTTPStatus()
		if status == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", "1")
		}
		writeProblem(w, status, e.Description)
		return
	}
	problem := a.problem(ctx, "authorize", err)
	model, ok := errors.AsType[*huma.ErrorModel](problem)
	if !ok {
		model = &huma.ErrorModel{Status: http.StatusInternalServerError}
	}
	writeProblem(w, model.Status, model.Detail)
}

// writeProblem writes problem details (RFC 9457).
func writeProblem(w http.ResponseWriter, status int, detail string) {
	body, err := json.Marshal(&huma.ErrorModel{Status: status, Title: http.StatusText(status), Detail: detail})
	if err != nil {
		status, body = http.StatusInternalServerError, nil
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// mustNotBeDeclared returns an error if a file declares a record.
func mustNotBeDeclared(what, file string) error {
	if file == "" {
		return nil
	}
	return huma.Error409Conflict(fmt.Sprintf("%s is declared in %s: change it there, then reload the configuration", what, file))
}
