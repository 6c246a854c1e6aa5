package telemetry

import (
	"context"
	"log/slog"
)

// Logger returns a logger whose records name the trace and the span of their context, and from which Of
// returns t. It returns logger if t is nil.
func (t *Telemetry) Logger(logger *slog.Logger) *slog.Logger {
	if t == nil {
		return logger
	}
	return slog.New(&logHandler{logger.Handler(), t})
}

type logHandler struct {
	slog.Handler
	telemetry *Telemetry
}

// Handle implements slog.Handler.
func (h *logHandler) Handle(ctx context.Context, r slog.Record) error {
	if s := SpanOf(ctx); s != nil {
		r = r.Clone()
		r.AddAttrs(slog.String("trace_id", s.TraceID()), slog.String("span_id", s.spanID()))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &logHandler{h.Handler.WithAttrs(attrs), h.telemetry}
}

// WithGroup implements slog.Handler.
func (h *logHandler) WithGroup(name string) slog.Handler {
	return &logHandler{h.Handler.WithGroup(name), h.telemetry}
}
