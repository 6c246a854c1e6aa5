package configuration

import (
	"fmt"
	"os"
)

// MasterKeyVariable is the environment variable with the master key. It has no member: a key
// does not belong in a configuration file.
const MasterKeyVariable = "VALETKEY_MASTER_KEY"

// PreviousMasterKeyVariable is the environment variable with the previous master key, during a rotation.
const PreviousMasterKeyVariable = "VALETKEY_PREVIOUS_MASTER_KEY"

// ClientSecretVariable is the environment variable with the client's secret for "valetkey token", and
// with the secret of a service account.
const ClientSecretVariable = "VALETKEY_CLIENT_SECRET"

// ServerVariable, APIVariable and ClientIDVariable are the environment variables with the issuer of the
// server that commands manage, where its management API is, and with the service account that they use.
const (
	ServerVariable   = "VALETKEY_SERVER"
	APIVariable      = "VALETKEY_API"
	ClientIDVariable = "VALETKEY_CLIENT_ID"
)

// EnvironmentVariable is an environment variable that the server reads.
type EnvironmentVariable struct {
	Name   string
	Member string // of the configuration, which it overrides; "" if there is none
	field  func(*Configuration) *string
}

// EnvironmentVariables returns all environment variables that the server and its commands
// read.
func EnvironmentVariables() []EnvironmentVariable {
	return []EnvironmentVariable{
		{"VALETKEY_ISSUER", "issuer", func(c *Configuration) *string { return &c.Issuer }},
		{"VALETKEY_LISTEN", "listen", func(c *Configuration) *string { return &c.Listen }},
		{"VALETKEY_DATABASE", "database", func(c *Configuration) *string { return &c.Database }},
		{"VALETKEY_DATABASE_FILE", "database_file", func(c *Configuration) *string { return &c.DatabaseFile }},
		{MasterKeyVariable, "", nil},
		{"VALETKEY_MASTER_KEY_FILE", "master_key_file", func(c *Configuration) *string { return &c.MasterKeyFile }},
		{PreviousMasterKeyVariable, "", nil},
		{"VALETKEY_PREVIOUS_MASTER_KEY_FILE", "previous_master_key_file", func(c *Configuration) *string { return &c.PreviousMasterKeyFile }},
		{"VALETKEY_LOG_LEVEL", "log.level", func(c *Configuration) *string { return &c.Log.Level }},
		{ClientSecretVariable, "", nil},
		{ServerVariable, "", nil},
		{APIVariable, "", nil},
		{ClientIDVariable, "", nil},
		{"VALETKEY_LOG_FORMAT", "log.format", func(c *Configuration) *string { return &c.Log.Format }},
		{"OTEL_EXPORTER_OTLP_ENDPOINT", "telemetry.otlp_endpoint", func(c *Configuration) *string { return &c.Telemetry.OTLPEndpoint }},
		{"OTEL_EXPORTER_OTLP_HEADERS", "", nil},
		{"OTEL_METRIC_EXPORT_INTERVAL", "telemetry.metrics_interval", nil},
		{"OTEL_RESOURCE_ATTRIBUTES", "", nil},
		{"OTEL_SERVICE_NAME", "telemetry.service_name", func(c *Configuration) *string { return &c.Telemetry.ServiceName }},
		{"OTEL_TRACES_SAMPLER_ARG", "telemetry.sample_ratio", nil},
	}
}

// FromEnvironment returns the configuration from environment variables alone, without a file.
func FromEnvironment() (Configuration, error) {
	var c Configuration
	return c, c.overlay(os.LookupEnv)
}

// overlay overrides the file with the environment. Empty variables are ignored.
func (c *Configuration) overlay(lookup func(string) (string, bool)) error {
	for _, variable := range EnvironmentVariables() {
		value, _ := lookup(variable.Name)
		if set := openTelemetryVariables[variable.Name]; value != "" && set != nil {
			if err := set(&c.Telemetry, value); err != nil {
				return fmt.Errorf("environment: %s: %w", variable.Name, err)
			}
			continue
		}
		if value == "" || variable.field == nil {
			continue
		}
		switch variable.Name {
		case "VALETKEY_DATABASE":
			c.DatabaseFile = ""
		case "VALETKEY_DATABASE_FILE":
			database, err := readSecretFile(value)
			if err != nil {
				return fmt.Errorf("environment: VALETKEY_DATABASE_FILE: %w", err)
			}
			if given, _ := lookup("VALETKEY_DATABASE"); given != "" && given != database {
				return fmt.Errorf("environment: VALETKEY_DATABASE and VALETKEY_DATABASE_FILE differ: set only one of them")
			}
			c.Database = database
		}
		*variable.field(c) = value
	}
	settings := *c
	settings.Declarations = Declarations{}
	if err := collectProblems(settings.validate); err != nil {
		return fmt.Errorf("environment: %w", err)
	}
	return nil
}
