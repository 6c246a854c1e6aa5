package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"go.yaml.in/yaml/v3"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
)

// TestCompose reads the file as docker compose does.
func TestCompose(t *testing.T) {
	options, err := cli.NewProjectOptions([]string{filepath.Join(root, "deploy/docker/compose.yaml")}, cli.WithResolvedPaths(true))
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	server, err := project.GetService("valetkey")
	if err != nil {
		t.Fatal(err)
	}
	if !server.ReadOnly || len(server.CapDrop) != 1 || server.CapDrop[0] != "ALL" || len(server.Ports) != 0 {
		t.Errorf("the server has a writable root, capabilities or a port: %v %v %v", server.ReadOnly, server.CapDrop, server.Ports)
	}
	database, err := project.GetService("database")
	if err != nil {
		t.Fatal(err)
	}
	if database.HealthCheck == nil || len(database.Networks) != 1 || !bool(project.Networks["back"].Internal) {
		t.Error("the database has no health check, or can be reached from outside")
	}
	for _, secret := range server.Secrets {
		if project.Secrets[secret.Source].File == "" {
			t.Errorf("the secret %s has no file", secret.Source)
		}
	}
}

const chartDir = root + "/deploy/helm/valetkey"

// render renders the chart, and returns the objects by kind.
func render(t *testing.T, values map[string]any) (map[string]map[string]any, error) {
	t.Helper()
	chart, err := loader.Load(chartDir)
	if err != nil {
		t.Fatal(err)
	}
	all, err := util.ToRenderValues(chart, values, common.ReleaseOptions{Name: "login", Namespace: "auth", IsInstall: true}, common.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	files, err := engine.Render(chart, all)
	if err != nil {
		return nil, err
	}
	objects := map[string]map[string]any{}
	for name, text := range files {
		if !strings.HasSuffix(name, ".yaml") || strings.TrimSpace(text) == "" {
			continue
		}
		var object map[string]any
		if err := yaml.Unmarshal([]byte(text), &object); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, text)
		}
		objects[object["kind"].(string)] = object
	}
	return objects, nil
}

// at returns what is at a path of keys and indexes.
func at(object any, path ...any) any {
	for _, step := range path {
		switch step := step.(type) {
		case string:
			m, _ := object.(map[string]any)
			object = m[step]
		case int:
			list, _ := object.([]any)
			if step >= len(list) {
				return nil
			}
			object = list[step]
		}
	}
	return object
}

var postgreSQL = map[string]any{
	"issuer": "https://www.example.com/login", "masterKey": map[string]any{"existingSecret": "key"},
	"database": map[string]any{"existingSecret": "database"}, "replicas": 3,
	"ingress": map[string]any{"enabled": true, "className": "nginx", "tlsSecret": "www"},
	"config":  map[string]any{"trusted_proxies": []any{"10.0.0.0/8"}, "lifetimes": map[string]any{"session": "8h"}},
}

func TestChartHasNoLint(t *testing.T) {
	result := lint.RunAll(chartDir, postgreSQL, "auth")
	for _, message := range result.Messages {
		if strings.Contains(message.Error(), "icon is recommended") {
			continue
		}
		t.Error(message.Error())
	}
}

func TestChart(t *testing.T) {
	objects, err := render(t, postgreSQL)
	if err != nil {
		t.Fatal(err)
	}
	pod := at(objects["Deployment"], "spec", "template", "spec")
	container := at(pod, "containers", 0)
	for _, check := range []struct {
		want any
		got  any
	}{
		{3, at(objects["Deployment"], "spec", "replicas")},
		{true, at(pod, "securityContext", "runAsNonRoot")},
		{"RuntimeDefault", at(pod, "securityContext", "seccompProfile", "type")},
		{false, at(pod, "automountServiceAccountToken")},
		{true, at(container, "securityContext", "readOnlyRootFilesystem")},
		{false, at(container, "securityContext", "allowPrivilegeEscalation")},
		{"ALL", at(container, "securityContext", "capabilities", "drop", 0)},
		{"/readyz", at(container, "readinessProbe", "httpGet", "path")},
		{"/healthz", at(container, "livenessProbe", "httpGet", "path")},
		{"database", at(container, "env", 1, "valueFrom", "secretKeyRef", "name")},
		{1, at(objects["PodDisruptionBudget"], "spec", "maxUnavailable")},
		{"www.example.com", at(objects["Ingress"], "spec", "rules", 0, "host")},
		{"/.well-known/oauth-authorization-server/login", at(objects["Ingress"], "spec", "rules", 0, "http", "paths", 1, "path")},
		{nil, at(objects["PersistentVolumeClaim"], "kind")},
	} {
		if check.got != check.want {
			t.Errorf("%v instead of %v", check.got, check.want)
		}
	}

	// The program itself checks the configuration.
	text, _ := at(objects["ConfigMap"], "data", "valetkey.yaml").(string)
	for _, want := range []string{"issuer: https://www.example.com/login", "listen: 0.0.0.0:8080", "session: 8h", "- 10.0.0.0/8"} {
		if !strings.Contains(text, want) {
			t.Errorf("the configuration has no %q:\n%s", want, text)
		}
	}
	file := filepath.Join(t.TempDir(), "valetkey.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if output, err := exec.Command(program(t), "check", file, "--database", "sqlite::memory:").CombinedOutput(); err != nil {
		t.Errorf("the configuration is not valid: %v\n%s", err, output)
	}
}

func TestChartWithSQLite(t *testing.T) {
	objects, err := render(t, map[string]any{"issuer": "https://login.example.com", "masterKey": map[string]any{"existingSecret": "key"}, "replicas": 3})
	if err != nil {
		t.Fatal(err)
	}
	if n := at(objects["Deployment"], "spec", "replicas"); n != 1 {
		t.Errorf("%v replicas share a SQLite database", n)
	}
	if kind := at(objects["Deployment"], "spec", "strategy", "type"); kind != "Recreate" {
		t.Errorf("two servers use one SQLite database during an upgrade: %v", kind)
	}
	if objects["PersistentVolumeClaim"] == nil || objects["Ingress"] != nil || objects["PodDisruptionBudget"] != nil {
		t.Errorf("the objects are %v", objects)
	}
}

func TestChartRefusesIncompleteValues(t *testing.T) {
	for name, values := range map[string]map[string]any{
		"no issuer":           {"masterKey": map[string]any{"existingSecret": "key"}},
		"no master key":       {"issuer": "https://login.example.com"},
		"an issuer with http": {"issuer": "http://login.example.com", "masterKey": map[string]any{"existingSecret": "key"}},
	} {
		if _, err := render(t, values); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
