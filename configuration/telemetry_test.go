package configuration

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestTelemetryIsChecked(t *testing.T) {
	for text, want := range map[string]string{
		"telemetry: {metrics_listen: \"9464\"}\n":                            "telemetry.metrics_listen",
		"telemetry: {otlp_endpoint: collector:4318}\n":                       "telemetry.otlp_endpoint",
		"telemetry: {otlp_endpoint: \"https://user:hunter2@a.example\"}\n":   "telemetry.otlp_endpoint",
		"telemetry: {otlp_endpoint: \"https://a.example/?token=hunter2\"}\n": "telemetry.otlp_endpoint",
		"telemetry: {sample_ratio: 2}\n":                                     "between 0 and 1",
		"telemetry: {metrics_interval: 1ms}\n":                               "between 1s and 1h",
	} {
		_, err := parse("v.yaml", []byte(text), true)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, without %q", text, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error has a password: %v", err)
		}
	}
}

func TestMetricsAreOnLoopbackByDefault(t *testing.T) {
	for listen, want := range map[string]string{":9464": "127.0.0.1:9464", "0.0.0.0:9464": "0.0.0.0:9464", "[::]:9464": "[::]:9464", "": ""} {
		if got := (&Telemetry{MetricsListen: listen}).MetricsAddress(); got != want {
			t.Errorf("%q means %q, not %q", listen, got, want)
		}
	}
}

func TestVariablesOfOpenTelemetry(t *testing.T) {
	variables := map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": "https://collector.example:4318",
		"OTEL_EXPORTER_OTLP_HEADERS":  "api-key=hunter2%2C3, x-tenant = a",
		"OTEL_RESOURCE_ATTRIBUTES":    "deployment.environment.name=production,host.name=login1",
		"OTEL_SERVICE_NAME":           "login",
		"OTEL_TRACES_SAMPLER_ARG":     "0.25",
		"OTEL_METRIC_EXPORT_INTERVAL": "15000",
	}
	lookup := func(name string) (string, bool) { value, ok := variables[name]; return value, ok }
	var c Configuration
	if err := c.overlay(lookup); err != nil {
		t.Fatal(err)
	}
	o := c.Telemetry
	if !o.On() || o.OTLPEndpoint != variables["OTEL_EXPORTER_OTLP_ENDPOINT"] || o.ServiceName != "login" || *o.SampleRatio != 0.25 || time.Duration(o.MetricsInterval) != 15*time.Second {
		t.Errorf("%#v", []any{o.OTLPEndpoint, o.ServiceName, o.SampleRatio, o.MetricsInterval})
	}
	if o.OTLPHeaders["api-key"] != "hunter2,3" || o.OTLPHeaders["x-tenant"] != "a" {
		t.Errorf("headers: %v", o.OTLPHeaders)
	}
	if want := [][2]string{{"deployment.environment.name", "production"}, {"host.name", "login1"}}; fmt.Sprint(o.ResourceAttributes) != fmt.Sprint(want) {
		t.Errorf("attributes: %v", o.ResourceAttributes)
	}
	if text := fmt.Sprintf("%v %+v %#v %s", o, o, o, &o); strings.Contains(text, "hunter2") {
		t.Errorf("printed as %s", text)
	}
	for name, value := range map[string]string{
		"OTEL_EXPORTER_OTLP_HEADERS": "hunter2", "OTEL_TRACES_SAMPLER_ARG": "often", "OTEL_METRIC_EXPORT_INTERVAL": "soon", "OTEL_RESOURCE_ATTRIBUTES": "=",
		"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector.example:4318", // the header would be sent without encryption
	} {
		before := variables[name]
		variables[name] = value
		if err := new(Configuration).overlay(lookup); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s=%s: %v", name, value, err)
		}
		variables[name] = before
	}
}
