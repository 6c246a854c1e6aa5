package event

import (
	"context"
	"errors"
	"log/slog"
)

// ClientGone reports whether a request failed because its client closed the connection, which is not a
// fault. ctx is the context of the request.
func ClientGone(ctx context.Context, err error) bool {
	return errors.Is(err, context.Canceled) && errors.Is(ctx.Err(), context.Canceled)
}

// LevelOf returns the level for the log record of a failure: error, or debug if the client is gone.
func LevelOf(ctx context.Context, err error) slog.Level {
	if ClientGone(ctx, err) {
		return slog.LevelDebug
	}
	return slog.LevelError
}
