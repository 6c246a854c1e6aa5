package resourceserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
)

// TransactionTokenHeader is the header in which services send a transaction token, unmodified,
// to the next service (draft-ietf-oauth-transaction-tokens, section 12.1, experimental).
const TransactionTokenHeader = "Txn-Token"

// TransactionToken tells an internal service for which user and for which transaction it is
// called (draft-ietf-oauth-transaction-tokens, experimental). It does not authenticate the
// sender: services of a trust domain authenticate each other by other means.
type TransactionToken struct {
	Transaction        string // txn, the same in every service: log it
	Subject            string
	Scope              oauth.Scope
	RequestingWorkload string // req_wl: who requested the token
	Expires            time.Time
	// Claims are all claims, including tctx and rctx.
	Claims map[string]any
	raw    string
}

// Format keeps the token out of logs and error messages, for every verb.
func (t TransactionToken) Format(s fmt.State, _ rune) {
	fmt.Fprintf(s, "[transaction token of %q]", t.Transaction)
}

// LogValue keeps the token out of structured logs.
func (t TransactionToken) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(t)) }

// Forward adds the token to a request to the next service.
func (t *TransactionToken) Forward(r *http.Request) { r.Header.Set(TransactionTokenHeader, t.raw) }

type transactionKey struct{}

// TransactionFromContext returns the token of a request that passed RequireTransaction.
func TransactionFromContext(ctx context.Context) (*TransactionToken, bool) {
	t, ok := ctx.Value(transactionKey{}).(*TransactionToken)
	return t, ok
}

// RequireTransaction returns middleware for a service in Config.TrustDomain. It requires a
// transaction token with all of the given scopes. The response to other requests is a JSON
// error with the status 401, or 403 if only a scope is missing. There is no challenge,
// because a client cannot obtain such a token itself.
func (s *ResourceServer) RequireTransaction(scopes ...string) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			token, err := s.transaction(r, scopes)
			if err != nil {
				s.refuseTransaction(w, r, err)
				return
			}
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), transactionKey{}, token)))
		})
	}
}

func (s *ResourceServer) transaction(r *http.Request, scopes []string) (*TransactionToken, error) {
	headers := r.Header[TransactionTokenHeader]
	if len(headers) != 1 {
		return nil, oauth.NewError(oauth.InvalidToken, "send exactly one "+TransactionTokenHeader+" header")
	}
	token, err := s.ValidateTransaction(r.Context(), headers[0])
	if err != nil {
		return nil, err
	}
	for _, scope := range scopes {
		if !token.Scope.Has(scope) {
			return nil, oauth.NewError(oauth.InsufficientScope, "the transaction token lacks a required scope")
		}
	}
	return token, nil
}

// ValidateTransaction validates a transaction token that does not come from an HTTP request.
// Its errors are like those of Validate.
func (s *ResourceServer) ValidateTransaction(ctx context.Context, raw string) (*TransactionToken, error) {
	if s.config.TrustDomain == "" {
		return nil, errors.New("resourceserver: transaction tokens require Config.TrustDomain")
	}
	now := time.Now()
	payload, _, err := s.verify(ctx, s.main, raw, jose.Expected{Types: []string{oauth.TypTransactionToken}}, now)
	if bad, ok := errors.AsType[errSignature](err); ok {
		return nil, badTransaction("is not signed by the authorization server: " + bad.Error())
	}
	if err != nil {
		return nil, err
	}
	t, claims, err := readToken(payload, nil)
	if err != nil {
		return nil, badTransaction("has malformed claims")
	}
	token := &TransactionToken{Subject: t.Subject, Scope: t.Scope, Expires: t.Expires, Claims: t.Claims, raw: raw}
	token.Transaction, _ = t.Claims["txn"].(string)
	token.RequestingWorkload, _ = t.Claims["req_wl"].(string)
	skew := s.config.ClockSkew
	switch {
	case claims.Issuer != s.config.Issuer:
		return nil, badTransaction("was issued by another server")
	case !slices.Contains(t.Audience, s.config.TrustDomain):
		return nil, badTransaction("is for another trust domain")
	case t.Expires.IsZero() || !now.Before(t.Expires.Add(skew)):
		return nil, badTransaction("has expired")
	case claims.IssuedAt.IsZero() || claims.IssuedAt.Sub(now) > skew || claims.NotBefore.Sub(now) > skew:
		return nil, badTransaction("is not valid yet")
	case token.Transaction == "" || token.Subject == "" || token.RequestingWorkload == "":
		return nil, badTransaction("lacks txn, sub or req_wl")
	}
	return token, nil
}

func badTransaction(why string) error {
	return oauth.NewError(oauth.InvalidToken, "the transaction token "+why)
}

func (s *ResourceServer) refuseTransaction(w http.ResponseWriter, r *http.Request, err error) {
	e := oauth.AsError(err)
	if e == nil {
		s.log.ErrorContext(r.Context(), "transaction token could not be validated", "issuer", s.config.Issuer, "error", err)
		w.Header().Set("Retry-After", "5")
		http.Error(w, "The transaction token cannot be validated at the moment. Try again later.", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.HTTPStatus())
	// An error means that the caller has disconnected.
	_ = json.NewEncoder(w).Encode(map[string]string{"error": string(e.Code), "error_description": e.Description})
}
