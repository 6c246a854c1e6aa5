package interop

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/valetkey/valetkey/authservertest"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/oauth"
)

// TestStrictKeySetReader gives the server's key set to a library that rejects a key of an unknown
// type, or without an alg.
func TestStrictKeySetReader(t *testing.T) {
	reader := []string{need(t, "node"), filepath.Join(installNode(t, "node"), "keyset.mjs")}
	client := func(id, algorithm string) configuration.Client {
		return configuration.Client{ID: id, Secret: plainSecret, ClientMetadata: oauth.ClientMetadata{
			RedirectURIs: []string{redirectURI}, Scope: "openid", IDTokenSignedResponseAlg: algorithm,
		}}
	}
	server := authservertest.NewServer(t, authservertest.Config{Declarations: configuration.Declarations{
		Clients: []configuration.Client{client("default", ""), client("ecdsa", "ES256"), client("edwards", "EdDSA")},
	}})
	set := keySetWith(t, server.Issuer+"/jwks", "EdDSA")
	kinds, err := readKeySet(t, reader, set)
	if err != nil {
		t.Fatalf("%v\n%s", err, set)
	}
	slices.Sort(kinds)
	if diff := cmp.Diff([]string{"EC ES256 sig", "OKP EdDSA sig", "RSA RS256 sig"}, slices.Compact(kinds)); diff != "" {
		t.Errorf("the keys (-want +got):\n%s", diff)
	}
	// The test proves something only if the reader is strict.
	for name, key := range map[string]string{
		"of an unknown type": `{"kty":"TOMORROW","kid":"x","alg":"TM256","use":"sig"},`,
		"without alg":        `{"kty":"EC","crv":"P-256","kid":"x","use":"sig","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"},`,
	} {
		changed := bytes.Replace(set, []byte(`{"keys":[`), []byte(`{"keys":[`+key), 1)
		if kinds, err := readKeySet(t, reader, changed); err == nil {
			t.Errorf("the reader accepts a key %s: %q", name, kinds)
		}
	}
}

// keySetWith returns the key set once it has a key of the algorithm: a server creates keys in the
// background.
func keySetWith(t *testing.T, address, algorithm string) []byte {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-tick.C {
		response, err := http.Get(address)
		if err != nil {
			t.Fatal(err)
		}
		set, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(set, []byte(`"`+algorithm+`"`)) {
			return set
		}
	}
	t.Fatalf("there is no key for %s", algorithm)
	return nil
}

func readKeySet(t *testing.T, reader []string, set []byte) (kinds []string, err error) {
	t.Helper()
	command := exec.CommandContext(t.Context(), reader[0], reader[1:]...)
	command.Stdin = bytes.NewReader(set)
	output, err := command.Output()
	if err != nil {
		return nil, err
	}
	return kinds, json.Unmarshal(output, &kinds)
}
