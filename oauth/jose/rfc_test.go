package jose

import (
	"crypto/ed25519"
	"encoding/base64"
	"testing"
)

// The claims that the examples of RFC 7515, appendices A.1 to A.3 sign.
const joe = "{\"iss\":\"joe\",\r\n \"exp\":1300819380,\r\n \"http://example.com/is_root\":true}"

// Keys and tokens of RFC 7515, appendix A, and of RFC 8037, appendix A.
const (
	a1Secret = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"
	a1Token  = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"

	a2Key   = `{"kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"}`
	a2Token = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"

	a3Key   = `{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}`
	a3Token = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"

	a4Key   = `{"kty":"EC","crv":"P-521","x":"AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk","y":"ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2"}`
	a4Token = "eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA.AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGDKB34XO0aw_7XdtAG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn"

	edPrivate = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"
	edKey     = `{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`
	edToken   = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
)

func keySet(t testing.TB, members ...string) *KeySet {
	t.Helper()
	document := `{"keys":[`
	for i, member := range members {
		if i > 0 {
			document += ","
		}
		document += member
	}
	set, err := ParseKeySet([]byte(document + "]}"))
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func decoded(t testing.TB, s string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRFCExamplesVerify(t *testing.T) {
	for _, test := range []struct {
		name, key, token, payload string
		alg                       Algorithm
	}{
		{"RFC 7515 A.2", a2Key, a2Token, joe, RS256},
		{"RFC 7515 A.3", a3Key, a3Token, joe, ES256},
		{"RFC 7515 A.4", a4Key, a4Token, "Payload", ES512},
		{"RFC 8037 A.4", edKey, edToken, "Example of Ed25519 signing", EdDSA},
	} {
		t.Run(test.name, func(t *testing.T) {
			keys := keySet(t, test.key)
			payload, header, err := Verify(test.token, keys, Expected{Algorithms: []Algorithm{test.alg}})
			if err != nil || string(payload) != test.payload || header.Algorithm != test.alg {
				t.Fatalf("got %q, %+v, %v", payload, header, err)
			}
			for i := range len(test.token) {
				changed := []byte(test.token)
				if changed[i] == 'B' {
					changed[i] = 'C'
				} else {
					changed[i] = 'B'
				}
				if i%7 != 0 { // test one in seven positions, to save time
					continue
				}
				if _, _, err := Verify(string(changed), keys, Expected{Algorithms: []Algorithm{test.alg}}); err == nil {
					t.Fatalf("accepted with character %d changed", i)
				}
			}
		})
	}
	payload, header, err := VerifySecret(a1Token, decoded(t, a1Secret), Expected{Algorithms: []Algorithm{HS256}})
	if err != nil || string(payload) != joe || header.Type != "JWT" {
		t.Errorf("RFC 7515 A.1: got %q, %+v, %v", payload, header, err)
	}
}

func TestRFC8037SignsItsExample(t *testing.T) {
	signer, err := NewSigner(EdDSA, "", ed25519.NewKeyFromSeed(decoded(t, edPrivate)))
	if err != nil {
		t.Fatal(err)
	}
	token, err := signer.Sign("", []byte("Example of Ed25519 signing"))
	if err != nil || token != edToken {
		t.Errorf("got %s, %v", token, err)
	}
	if got := signer.Public().Thumbprint(); got != "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k" { // RFC 8037 A.3
		t.Errorf("thumbprint %s", got)
	}
}

func TestRFC7517And7638Example(t *testing.T) {
	const n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
	// RFC 7517, appendix A.1; its first key is for encryption.
	set := keySet(t,
		`{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","use":"enc","kid":"1"}`,
		`{"kty":"RSA","n":"`+n+`","e":"AQAB","alg":"RS256","kid":"2011-04-29"}`)
	if len(set.Keys) != 2 || set.Keys[1].KeyID() != "2011-04-29" || set.Keys[1].Algorithm() != RS256 {
		t.Fatalf("got %+v", set.Keys)
	}
	if set.Keys[0].verifies(ES256) || set.Keys[1].encrypts(RSAOAEP) {
		t.Error("an encryption key verifies, or a signing key encrypts")
	}
	if got := set.Keys[1].Thumbprint(); got != "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs" {
		t.Errorf("thumbprint %s", got)
	}
}

// The access token and at_hash of the example in OpenID Connect Core, appendix A.3.
func TestLeftHash(t *testing.T) {
	if got := LeftHash(RS256, "jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y"); got != "77QmUPtjPfzWtF2AnpK9RQ" {
		t.Errorf("got %s", got)
	}
	for alg, size := range map[Algorithm]int{ES256: 16, ES384: 24, ES512: 32, PS256: 16, EdDSA: 32} {
		if got := len(decoded(t, LeftHash(alg, "x"))); got != size {
			t.Errorf("%s: %d bytes, want %d", alg, got, size)
		}
	}
}
