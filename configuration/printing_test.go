package configuration

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// Declared secrets are neither printed nor logged.
func TestDeclaredSecretsAreNotPrinted(t *testing.T) {
	client, user := Client{ID: "app", Secret: "hunter2"}, User{Username: "ada", Password: "hunter2"}
	for name, v := range map[string]any{
		"client": client, "user": user, "configuration": Configuration{Database: "postgres://valetkey:hunter2@localhost/db"},
		"declarations": Declarations{Clients: []Client{client}, Users: []User{user}},
	} {
		printed := fmt.Sprintf("%v %+v %#v %s %q", v, v, v, v, []any{v})
		var logged bytes.Buffer
		slog.New(slog.NewTextHandler(&logged, nil)).Info("it", "v", v)
		if strings.Contains(printed+logged.String(), "hunter2") {
			t.Errorf("%s: %s %s", name, printed, logged.String())
		}
	}
}
