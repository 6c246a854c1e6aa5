package valetkey

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/valetkey/valetkey/audit"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/telemetry"
)

// newTelemetry returns nil if the configuration has none.
func newTelemetry(c *configuration.Configuration) (*telemetry.Telemetry, error) {
	if !c.Telemetry.On() {
		return nil, nil
	}
	issuer, err := url.Parse(c.Issuer)
	if err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	ratio := 1.0
	if c.Telemetry.SampleRatio != nil {
		ratio = *c.Telemetry.SampleRatio
	}
	return telemetry.New(telemetry.Config{
		Endpoint: c.Telemetry.OTLPEndpoint, Headers: c.Telemetry.OTLPHeaders,
		SampleRatio:  ratio,
		MetricsEvery: time.Duration(c.Telemetry.MetricsInterval),
		ServiceName:  cmp.Or(c.Telemetry.ServiceName, "valetkey"), ServiceVersion: Version,
		Attributes: c.Telemetry.ResourceAttributes,
		Scheme:     issuer.Scheme,
	}), nil
}

// ServeMetrics serves /metrics, in the text format of Prometheus, on a listener until ctx is done. It
// needs telemetry to be on.
func (s *Server) ServeMetrics(ctx context.Context, listener net.Listener) error {
	if s.telemetry == nil {
		return errors.New("telemetry.metrics_listen is not set")
	}
	address, err := netip.ParseAddrPort(listener.Addr().String())
	server := &http.Server{
		Handler:           s.telemetry.Handler(err == nil && !address.Addr().IsLoopback()),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       5 * time.Second,
		WriteTimeout:      15 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve metrics: %w", err)
	case <-ctx.Done():
		return server.Close()
	}
}

// logsRequests reports whether there is a log record for each request.
func (s *Server) logsRequests(ctx context.Context) bool {
	return s.config.Log.Access || s.log.Enabled(ctx, slog.LevelDebug)
}

// observation is the context of a request that is measured, logged, or both, and what else that needs: all of
// it in one allocation.
type observation struct {
	deadline
	measured bool
	span     telemetry.Span // if measured
	writer   statusWriter
}

// Value is like context.Context.Value.
func (o *observation) Value(key any) any {
	if key == telemetry.ContextKey && o.measured {
		return &o.span
	}
	return o.deadline.Value(key)
}

// DescribeActor says where the request comes from, for the audit log.
func (o *observation) DescribeActor(actor *audit.Actor) {
	o.deadline.DescribeActor(actor)
	if o.measured {
		actor.TraceID = o.span.TraceID()
	}
}

// serveObserved handles a request that is measured, logged, or both.
func (s *Server) serveObserved(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	o := &observation{measured: s.telemetry != nil, writer: statusWriter{ResponseWriter: w}}
	o.begin(s, r, began, o)
	defer o.end()
	s.telemetry.StartRequest(&o.span, r, began, func() bool {
		peer, err := netip.ParseAddrPort(r.RemoteAddr)
		return err == nil && s.proxies.Trusted(peer.Addr().Unmap())
	})
	defer s.observed(o, r, began)
	s.handle(o, &o.writer, r)
}

// observed measures and logs a request that has ended.
func (s *Server) observed(o *observation, r *http.Request, began time.Time) {
	canceled := errors.Is(r.Context().Err(), context.Canceled)
	status := o.writer.status
	if !canceled {
		status = cmp.Or(status, http.StatusOK)
	}
	route := o.writer.route
	if route == "" {
		route = s.route(r)
	}
	if s.logsRequests(r.Context()) {
		s.logRequest(o, r, route, status, canceled, o.writer.bytes, began)
	}
	o.span.EndRequest(r, route, status, canceled)
}

// route returns the pattern of the path of a request; "" if there is nothing. There are few patterns,
// whatever is requested.
func (s *Server) route(r *http.Request) string {
	path := r.URL.Path
	if path == "/healthz" || path == "/readyz" || s.engine.Handles(path) {
		return path
	}
	return s.pageRoute(path)
}

// logRequest writes the access log. It has neither the query nor an unknown path: both may contain
// codes and tokens.
func (s *Server) logRequest(ctx context.Context, r *http.Request, route string, status int, canceled bool, bytes int64, began time.Time) {
	level := slog.LevelDebug
	if s.config.Log.Access {
		level = slog.LevelInfo
	}
	attrs := []slog.Attr{
		slog.String("method", telemetry.Method(r.Method)), slog.String("path", cmp.Or(route, "(unknown)")),
		slog.Int("status", status), slog.Int64("bytes", bytes), slog.Any("from", s.proxies.Of(r)),
		slog.Duration("took", time.Since(began)),
	}
	if canceled {
		attrs = append(attrs, slog.Bool("canceled", true))
	}
	s.log.LogAttrs(ctx, level, "request", attrs...)
}

// statusWriter remembers the status and the size of a response.
type statusWriter struct {
	http.ResponseWriter
	status int
	bytes  int64
	route  string // set by routed
}

// routed sets the route of an observed request to the pattern of a ServeMux.
func routed(w http.ResponseWriter, pattern string) {
	if observed, ok := w.(*statusWriter); ok && pattern != "/" {
		if _, path, ok := strings.Cut(pattern, " "); ok {
			pattern = path
		}
		observed.route = pattern
	}
}

// WriteHeader implements http.ResponseWriter.
func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *statusWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
