package manage

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/valetkey/valetkey/internal/database"
	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/manage/api"
	"github.com/valetkey/valetkey/storage"
)

// A caller that does not know whether a request took effect repeats it with the same Idempotency-Key
// (draft-ietf-httpapi-idempotency-key-header). A ticket claims the key before the request runs, so of
// several that arrive together one runs. Another ticket then has the response, encrypted, because a
// response can contain a secret. Every request is authorized first, also a repeated one.

const (
	// responseLifetime is how long a key is remembered.
	responseLifetime  = 24 * time.Hour
	maxIdempotencyKey = 255
	// maxStoredResponse is the longest response that is stored, in bytes.
	maxStoredResponse = storage.MaxData / 2
)

func newResponseCipher(secret []byte) (cipher.AEAD, error) {
	key, err := database.Derive(secret, "valetkey management responses")
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("encrypt responses: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// storedResponse is the response to a request that took effect.
type storedResponse struct {
	Status int         `json:"status"`
	Header http.Header `json:"header"`
	Body   []byte      `json:"body"`
	// TooLong says that the response was too long to store.
	TooLong bool `json:"too_long,omitempty"`
}

// claimedKey is the data of the ticket that claims a key.
type claimedKey struct {
	Fingerprint []byte `json:"fingerprint"`
	// Permissions are those with which the request ran: its response may have a secret that only they
	// allow to see.
	Permissions []api.Permission `json:"permissions"`
}

// once runs a request, unless it repeats an earlier one: then it returns the response of that one.
func (a *API) once(ctx huma.Context, p *principal, w http.ResponseWriter, next func(huma.Context)) {
	r, _ := humago.Unwrap(ctx)
	key := strings.Trim(ctx.Header("Idempotency-Key"), `"`)
	if key == "" || ctx.Method() == http.MethodGet || ctx.Method() == http.MethodHead || ctx.Query("dry_run") == "true" {
		next(ctx)
		return
	}
	if len(key) > maxIdempotencyKey {
		writeProblem(w, http.StatusBadRequest, "the Idempotency-Key is longer than 255 bytes")
		return
	}
	body, err := io.ReadAll(io.LimitReader(ctx.BodyReader(), ctx.Operation().MaxBodyBytes+1))
	if err != nil {
		writeProblem(w, http.StatusBadRequest, "the body cannot be read")
		return
	}
	who := p.id() + "\x00"
	if p.user != nil {
		who = "user\x00" + who
	}
	claim := ticketkind.ManagementRequest.Hash(who + key)
	answered := ticketkind.ManagementResponse.Hash(who + key)
	fingerprint := sha256.Sum256([]byte(ctx.Method() + "\x00" + r.URL.RequestURI() + "\x00" + ctx.Header("If-Match") + "\x00" + string(body)))
	now := time.Now()
	data, err := json.Marshal(claimedKey{fingerprint[:], p.permissions})
	if err == nil {
		err = a.config.Store.Put(ctx.Context(), now, storage.Ticket{Key: claim, Data: data, Expires: now.Add(responseLifetime)})
	}
	if errors.Is(err, storage.ErrExists) {
		if err = a.repeat(ctx.Context(), p, w, now, claim, answered, fingerprint[:]); err == nil {
			return
		}
	}
	if err != nil {
		a.refuse(ctx.Context(), w, err)
		return
	}
	recorded := &recording{requestContext: ctx, body: bytes.NewReader(body), header: http.Header{}}
	next(recorded)
	a.remember(context.WithoutCancel(ctx.Context()), recorded, claim, answered)
	for name, values := range recorded.header {
		w.Header()[name] = values
	}
	w.WriteHeader(recorded.Status())
	_, _ = w.Write(recorded.written.Bytes())
}

// remember stores the response of a request that took effect, and forgets the key of one that was
// refused, because nothing has changed. After an internal error the key stays claimed: the request may
// have taken effect.
func (a *API) remember(ctx context.Context, r *recording, claim, answered storage.Key) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var err error
	switch status := r.Status(); {
	case status < http.StatusMultipleChoices:
		response := storedResponse{Status: status, Header: r.header, Body: r.written.Bytes()}
		if len(response.Body) > maxStoredResponse {
			response.Body, response.TooLong = nil, true
		}
		var encoded []byte
		if encoded, err = json.Marshal(response); err == nil {
			now := time.Now()
			sealed := a.responses.Seal(nil, nil, encoded, answered.ID[:])
			err = a.config.Store.Put(ctx, now, storage.Ticket{Key: answered, Data: sealed, Expires: now.Add(responseLifetime)})
		}
	case status < http.StatusInternalServerError:
		err = a.config.Store.Delete(ctx, claim)
	}
	if err != nil {
		a.log.ErrorContext(ctx, "the response of a management request was not stored; repeating it with the same Idempotency-Key is refused", "error", err)
	}
}

// repeat responds to a request whose key was used before.
func (a *API) repeat(ctx context.Context, p *principal, w http.ResponseWriter, now time.Time, claim, answered storage.Key, fingerprint []byte) error {
	first, err := a.config.Store.Get(ctx, now, claim)
	if errors.Is(err, storage.ErrNotFound) { // it was refused at this moment
		return huma.Error409Conflict("another request with this Idempotency-Key has just ended; repeat yours")
	}
	if err != nil {
		return fmt.Errorf("find the first request: %w", err)
	}
	var claimed claimedKey
	if err := json.Unmarshal(first.Data, &claimed); err != nil {
		return fmt.Errorf("read the first request: %w", err)
	}
	if !bytes.Equal(claimed.Fingerprint, fingerprint) {
		return huma.Error422UnprocessableEntity("the Idempotency-Key was used for another request: use a new key for each change")
	}
	if err := p.mustHave("the first request with this Idempotency-Key", claimed.Permissions); err != nil {
		return err
	}
	ticket, err := a.config.Store.Get(ctx, now, answered)
	if errors.Is(err, storage.ErrNotFound) {
		return huma.Error409Conflict("the first request with this Idempotency-Key is still running, or ended without a known result: read the record to find out, and use a new key")
	}
	if err != nil {
		return fmt.Errorf("find the first response: %w", err)
	}
	encoded, err := a.responses.Open(nil, nil, ticket.Data, answered.ID[:])
	if err != nil {
		return fmt.Errorf("decrypt the first response: %w", err)
	}
	var response storedResponse
	if err := json.Unmarshal(encoded, &response); err != nil {
		return fmt.Errorf("read the first response: %w", err)
	}
	if response.TooLong {
		return huma.Error409Conflict("the first request with this Idempotency-Key took effect; its response was too long to keep: read the record")
	}
	for name, values := range response.Header {
		w.Header()[name] = values
	}
	w.Header().Set("Idempotency-Replayed", "true")
	w.WriteHeader(response.Status)
	_, _ = w.Write(response.Body)
	return nil
}

// requestContext has another name than its method Context, so that it can be embedded.
type requestContext huma.Context

// recording keeps a response instead of sending it.
type recording struct {
	requestContext
	body    io.Reader
	header  http.Header
	status  int
	written bytes.Buffer
}

func (r *recording) BodyReader() io.Reader { return r.body }
func (r *recording) BodyWriter() io.Writer { return &r.written }
func (r *recording) SetStatus(status int)  { r.status = status }

// Status returns 200 if the operation has set no status.
func (r *recording) Status() int {
	if r.status == 0 {
		return http.StatusOK
	}
	return r.status
}

func (r *recording) SetHeader(name, value string)    { r.header.Set(name, value) }
func (r *recording) AppendHeader(name, value string) { r.header.Add(name, value) }
