package upstream

import (
	"errors"
	"fmt"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
)

// Errors of a sign-in with a provider. Each has a page that says what to do next.
var (
	// ErrUnavailable means that the provider did not respond in time, or with an error of its own.
	ErrUnavailable = errors.New("upstream: the provider is not available")
	// ErrCanceled means that the user canceled the sign-in at the provider, or did not consent.
	ErrCanceled = errors.New("upstream: the user canceled the sign-in at the provider")
	// ErrRefused means that the provider refused the request with an error.
	ErrRefused = errors.New("upstream: the provider refused the sign-in")
	// ErrResponse means that the response cannot be trusted: it comes from another provider, or what
	// it contains is not valid.
	ErrResponse = errors.New("upstream: the provider's response is not valid")
	// ErrOver means that the sign-in has expired, was completed before, or began in another browser.
	ErrOver = errors.New("upstream: the sign-in has expired, was completed before, or began in another browser")
	// ErrNotFresh means that the provider did not authenticate the user again although it was asked
	// to, or does not say when it did.
	ErrNotFresh = errors.New("upstream: the provider did not authenticate the user again")
)

// ThrottledError means that too many sign-ins were started from a network.
type ThrottledError struct{ RetryAfter time.Duration }

func (e *ThrottledError) Error() string {
	return fmt.Sprintf("upstream: too many sign-ins, try again in %v", e.RetryAfter)
}

// classify wraps an error of package client in one of the errors above.
func classify(err error) error {
	if err == nil {
		return nil
	}
	if response, ok := errors.AsType[*client.Error](err); ok {
		switch {
		case response.Status == 0 && (response.Code == oauth.AccessDenied || response.Code == "user_cancelled_authorize"):
			return fmt.Errorf("%w: %w", ErrCanceled, err)
		case response.Code == oauth.TemporarilyUnavailable || response.Code == oauth.ServerError || response.Status >= 500:
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	for _, invalid := range []error{client.ErrMixUp, client.ErrIDToken, client.ErrSubject, client.ErrCallback, client.ErrResponse, client.ErrMetadata} {
		if errors.Is(err, invalid) {
			return fmt.Errorf("%w: %w", ErrResponse, err)
		}
	}
	if errors.Is(err, client.ErrState) || errors.Is(err, client.ErrTransaction) {
		return fmt.Errorf("%w: %w", ErrOver, err)
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}
