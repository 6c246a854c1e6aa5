package configuration

import (
	"cmp"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/record"
)

// Telemetry says how the server is measured. It is off unless MetricsListen or OTLPEndpoint is set.
type Telemetry struct {
	// MetricsListen is the address of the listener for Prometheus, as host:port. Without a host, it is
	// 127.0.0.1.
	MetricsListen string `json:"metrics_listen,omitempty"`
	// OTLPEndpoint is the base URL of a receiver of OpenTelemetry (OTLP over HTTP, with Protocol Buffers).
	OTLPEndpoint string `json:"otlp_endpoint,omitempty"`
	// SampleRatio is which part of the requests is traced, from 0 to 1; nil means all.
	SampleRatio *float64 `json:"sample_ratio,omitempty"`
	// MetricsInterval is how often metrics are sent to OTLPEndpoint. The default is a minute.
	MetricsInterval record.Duration `json:"metrics_interval,omitzero"`
	// ServiceName is the name of the service in OpenTelemetry. The default is valetkey.
	ServiceName string `json:"service_name,omitempty"`

	// OTLPHeaders and ResourceAttributes come from the environment. Headers may contain secrets.
	OTLPHeaders        map[string]string `json:"-"`
	ResourceAttributes [][2]string       `json:"-"`
}

// On reports whether the server is measured.
func (t *Telemetry) On() bool { return t.MetricsListen != "" || t.OTLPEndpoint != "" }

// Format keeps the headers out of logs and messages.
func (t Telemetry) Format(s fmt.State, _ rune) { fmt.Fprintf(s, "[telemetry]") }

// MetricsAddress returns MetricsListen with a host; "" if it is not set.
func (t *Telemetry) MetricsAddress() string {
	host, port, err := net.SplitHostPort(t.MetricsListen)
	if err != nil {
		return t.MetricsListen
	}
	return net.JoinHostPort(cmp.Or(host, "127.0.0.1"), port)
}

func (t *Telemetry) validate(report reporter) {
	if t.MetricsListen != "" {
		if _, _, err := net.SplitHostPort(t.MetricsListen); err != nil {
			report("telemetry.metrics_listen", "%q is not a valid address (for example, 127.0.0.1:9464)", t.MetricsListen)
		}
	}
	if t.OTLPEndpoint != "" {
		u, err := url.Parse(t.OTLPEndpoint)
		switch {
		case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.RawQuery != "" || u.Fragment != "" || u.User != nil:
			report("telemetry.otlp_endpoint", "is not the base URL of a receiver (for example, http://127.0.0.1:4318)")
		case u.Scheme == "http" && len(t.OTLPHeaders) > 0 && !oauth.IsLoopbackHost(u.Hostname()):
			report("telemetry.otlp_endpoint", "must be https: OTEL_EXPORTER_OTLP_HEADERS would be sent without encryption")
		}
	}
	if r := t.SampleRatio; r != nil && !(*r >= 0 && *r <= 1) {
		report("telemetry.sample_ratio", "%v is not between 0 and 1", *r)
	}
	if d := time.Duration(t.MetricsInterval); d != 0 && (d < time.Second || d > time.Hour) {
		report("telemetry.metrics_interval", "%s is not between 1s and 1h", d)
	}
}

// The environment variables of OpenTelemetry whose values are not a text of the configuration.
var openTelemetryVariables = map[string]func(*Telemetry, string) error{
	"OTEL_EXPORTER_OTLP_HEADERS": func(t *Telemetry, value string) error {
		pairs, err := keyValues(value)
		t.OTLPHeaders = map[string]string{}
		for _, pair := range pairs {
			t.OTLPHeaders[pair[0]] = pair[1]
		}
		return err
	},
	"OTEL_RESOURCE_ATTRIBUTES": func(t *Telemetry, value string) (err error) {
		t.ResourceAttributes, err = keyValues(value)
		return err
	},
	"OTEL_TRACES_SAMPLER_ARG": func(t *Telemetry, value string) error {
		ratio, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return fmt.Errorf("%q is not a number between 0 and 1", value)
		}
		t.SampleRatio = &ratio
		return nil
	},
	"OTEL_METRIC_EXPORT_INTERVAL": func(t *Telemetry, value string) error {
		milliseconds, err := strconv.Atoi(value)
		if err != nil {
			return fmt.Errorf("%q is not a number of milliseconds", value)
		}
		t.MetricsInterval = record.Duration(time.Duration(milliseconds) * time.Millisecond)
		return nil
	},
}

// keyValues reads key1=value1,key2=value2, with percent-encoded values, as the variables of
// OpenTelemetry have it. Its errors contain no value.
func keyValues(s string) (pairs [][2]string, err error) {
	for part := range strings.SplitSeq(s, ",") {
		key, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		if part == "" {
			continue
		}
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if key = strings.TrimSpace(key); !ok || key == "" || err != nil {
			return nil, fmt.Errorf("is not a list of the form key1=value1,key2=value2, with percent-encoded values")
		}
		pairs = append(pairs, [2]string{key, value})
	}
	return pairs, nil
}
