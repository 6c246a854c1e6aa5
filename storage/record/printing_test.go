package record

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/valetkey/valetkey/oauth/jose"
)

func TestAPrivateKeyIsNeitherPrintedNorLogged(t *testing.T) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	d, err := private.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	key := Key{ID: "kid-1", Algorithm: jose.ES256, Private: private}
	for _, value := range []any{key, &key, []Key{key}, struct{ Key Key }{key}} {
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("key", "key", value)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("key", "key", value)
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
			fmt.Fprintf(&log, verb+"\n", value)
		}
		if err := json.NewEncoder(&log).Encode(value); err != nil {
			t.Fatal(err)
		}
		decimal := strings.Trim(fmt.Sprint(d[:8]), "[]")
		for _, secret := range []string{fmt.Sprintf("%x", d[:8]), decimal, strings.ReplaceAll(decimal, " ", ","), "D:", `"D"`} {
			if strings.Contains(log.String(), secret) {
				t.Errorf("%T shows the private key:\n%s", value, log.String())
				break
			}
		}
		if !strings.Contains(log.String(), "kid-1") {
			t.Errorf("%T does not show its ID:\n%s", value, log.String())
		}
	}
}
