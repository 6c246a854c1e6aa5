package passkey

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/internal/softauthenticator"
)

const (
	issuer  = "https://login.example.com/tenant"
	home    = "https://login.example.com"
	browser = "a secret in a cookie of the browser"
)

var (
	start = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)
	alice = &identity.User{ID: "Zm9vYmFyYmF6cXV4MTIzNA", Username: "alice"}
)

func relyingParty(t testing.TB, change func(*Config)) *RelyingParty {
	t.Helper()
	config := Config{Issuer: issuer, Name: "Example", Secret: bytes.Repeat([]byte{7}, 32)}
	if change != nil {
		change(&config)
	}
	rp, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	return rp
}

func creating(purpose Purpose) Ceremony { return Ceremony{purpose, browser, alice.ID} }

var signingIn = Ceremony{Purpose: SignIn, Browser: browser}

// created has a new passkey of Alice made by an authenticator, and returns what the server says to it.
func created(t testing.TB, rp *RelyingParty, device *softauthenticator.Authenticator, purpose Purpose) (*Created, error) {
	t.Helper()
	options, err := rp.CreationOptions(start, creating(purpose), alice, "Alice", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := device.Create(options)
	if err != nil {
		t.Fatal(err)
	}
	return rp.VerifyCreation(start, creating(purpose), response)
}

// asserted has an authenticator sign, and returns what the server says to it.
func asserted(t testing.TB, rp *RelyingParty, device *softauthenticator.Authenticator, p *identity.Passkey) (*Used, error) {
	t.Helper()
	return verify(t, rp, respond(t, rp, device), p)
}

func respond(t testing.TB, rp *RelyingParty, device *softauthenticator.Authenticator) []byte {
	t.Helper()
	options, err := rp.RequestOptions(start, signingIn, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := device.Get(options)
	if err != nil {
		t.Fatal(err)
	}
	return response
}

func verify(t testing.TB, rp *RelyingParty, response []byte, p *identity.Passkey) (*Used, error) {
	t.Helper()
	a, err := ParseAssertion(response)
	if err != nil {
		return nil, err
	}
	return rp.VerifyAssertion(start, signingIn, a, alice.ID, p)
}

func wantReason(t *testing.T, what string, err error, want Reason) {
	t.Helper()
	refused, ok := errors.AsType[*RefusedError](err)
	if !ok || refused.Reason != want {
		t.Errorf("%s: got %v, want a refusal because of %s", what, err, want)
	}
}

func TestPasskeyIsCreatedAndUsed(t *testing.T) {
	for _, alg := range []int{softauthenticator.ES256, softauthenticator.EdDSA, softauthenticator.RS256} {
		rp := relyingParty(t, nil)
		device := softauthenticator.New(home)
		device.Algorithm, device.RSABits = alg, 2048
		device.AAGUID = [16]byte{0xea, 0x9b, 0x8d, 0x66, 0x4d, 0x01, 0x1d, 0x21, 0x3c, 0xe4, 0xb6, 0xb4, 0x8c, 0xb5, 0x75, 0xd4}
		c, err := created(t, rp, device, Create)
		if err != nil {
			t.Fatalf("algorithm %d: %v", alg, err)
		}
		p := c.Passkey
		if ModelName(p.AAGUID) != "Google Password Manager" || !p.BackupEligible || !p.BackedUp || strings.Join(p.Transports, " ") != "hybrid internal" {
			t.Errorf("algorithm %d: the passkey is %+v", alg, p)
		}
		used, err := asserted(t, rp, device, &p)
		if err != nil || !used.UserVerified || !used.BackedUp {
			t.Errorf("algorithm %d: %+v, %v", alg, used, err)
		}
	}
}

// The user handle is the ID of the user, and the options of a sign-in name no passkeys, so they say
// nothing about accounts.
func TestLG27_OptionsRevealNothing(t *testing.T) {
	rp := relyingParty(t, nil)
	options, err := rp.RequestOptions(start, signingIn, nil)
	if err != nil {
		t.Fatal(err)
	}
	var o map[string]any
	if err := json.Unmarshal(options, &o); err != nil {
		t.Fatal(err)
	}
	delete(o, "challenge")
	if got, _ := json.Marshal(o); string(got) != `{"allowCredentials":[],"rpId":"login.example.com","timeout":240000,"userVerification":"required"}` {
		t.Errorf("the options of a sign-in are %s", got)
	}
	options, err = rp.CreationOptions(start, creating(Create), alice, "Alice", []identity.Passkey{{CredentialID: []byte("x"), Transports: []string{"usb"}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"id":"` + base64.RawURLEncoding.EncodeToString([]byte(alice.ID)), `"residentKey":"required"`, `"attestation":"none"`, `"excludeCredentials":[{"type":"public-key","id":"eA","transports":["usb"]}]`} {
		if !strings.Contains(string(options), want) {
			t.Errorf("the options of a new passkey lack %s: %s", want, options)
		}
	}
}

func TestLG22_Challenges(t *testing.T) {
	rp := relyingParty(t, nil)
	device := softauthenticator.New(home)
	c, err := created(t, rp, device, Create)
	if err != nil {
		t.Fatal(err)
	}
	response := respond(t, rp, device)
	a, err := ParseAssertion(response)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rp.VerifyAssertion(start, signingIn, a, alice.ID, &c.Passkey); err != nil {
		t.Fatal(err)
	}
	_, err = rp.VerifyAssertion(start.Add(ChallengeLifetime), signingIn, a, alice.ID, &c.Passkey)
	wantReason(t, "an old challenge", err, ReasonExpired)
	for what, other := range map[string]Ceremony{
		"another browser":  {SignIn, "another browser", ""},
		"no browser":       {SignIn, "", ""},
		"another purpose":  {Confirm, browser, ""},
		"a user":           {SignIn, browser, alice.ID},
		"a shifted length": {SignIn, browser + "0:", ""},
	} {
		_, err := rp.VerifyAssertion(start, other, a, alice.ID, &c.Passkey)
		wantReason(t, "a challenge of "+what, err, ReasonChallenge)
	}
	_, err = relyingParty(t, func(c *Config) { c.Secret = bytes.Repeat([]byte{8}, 32) }).VerifyAssertion(start, signingIn, a, alice.ID, &c.Passkey)
	wantReason(t, "a challenge of another server", err, ReasonChallenge)
	creation := softauthenticator.New(home)
	options, _ := rp.CreationOptions(start, creating(Create), alice, "Alice", nil)
	answer, err := creation.Create(options)
	if err != nil {
		t.Fatal(err)
	}
	for what, other := range map[string]Ceremony{"another user": {Create, browser, "b"}, "an upgrade": creating(Upgrade)} {
		_, err = rp.VerifyCreation(start, other, answer)
		wantReason(t, "a new passkey for "+what, err, ReasonChallenge)
	}
}

func TestLG23_AssertionsThatAreRefused(t *testing.T) {
	rp := relyingParty(t, nil)
	device := softauthenticator.New(home)
	c, err := created(t, rp, device, Create)
	if err != nil {
		t.Fatal(err)
	}
	for what, attack := range map[string]struct {
		change func(*softauthenticator.Authenticator)
		want   Reason
	}{
		"another site":             {func(d *softauthenticator.Authenticator) { d.Origin = "https://evil.example" }, ReasonOrigin},
		"a subdomain":              {func(d *softauthenticator.Authenticator) { d.Origin = "https://x.login.example.com" }, ReasonOrigin},
		"another port":             {func(d *softauthenticator.Authenticator) { d.Origin = home + ":8443" }, ReasonOrigin},
		"http":                     {func(d *softauthenticator.Authenticator) { d.Origin = "http://login.example.com" }, ReasonOrigin},
		"the issuer with its path": {func(d *softauthenticator.Authenticator) { d.Origin = issuer }, ReasonOrigin},
		"a frame":                  {func(d *softauthenticator.Authenticator) { d.CrossOrigin = true }, ReasonCrossOrigin},
		"another RP ID":            {func(d *softauthenticator.Authenticator) { d.RPID = "example.com" }, ReasonRPID},
		"no user":                  {func(d *softauthenticator.Authenticator) { d.Flags &^= softauthenticator.UserPresent }, ReasonUserPresence},
		"no verification":          {func(d *softauthenticator.Authenticator) { d.Flags &^= softauthenticator.UserVerified }, ReasonUserVerification},
		"not eligible any more": {func(d *softauthenticator.Authenticator) {
			d.Flags = softauthenticator.UserPresent | softauthenticator.UserVerified
		}, ReasonBackupFlags},
		"backed up, not eligible": {func(d *softauthenticator.Authenticator) { d.Flags &^= softauthenticator.BackupEligible }, ReasonBackupFlags},
	} {
		attacker := *device
		attack.change(&attacker)
		_, err := asserted(t, rp, &attacker, &c.Passkey)
		wantReason(t, "an assertion from "+what, err, attack.want)
	}
	// What the authenticator signed was changed afterwards.
	for _, member := range []string{"clientDataJSON", "authenticatorData", "signature", "userHandle"} {
		response := tampered(t, respond(t, rp, device), member)
		if _, err := verify(t, rp, response, &c.Passkey); err == nil {
			t.Errorf("a changed %s is accepted", member)
		}
	}
	_, err = verify(t, rp, bytes.Repeat([]byte(" "), maxAssertionBytes+1), &c.Passkey)
	wantReason(t, "a long response", err, ReasonMalformed)
}

// tampered flips a bit in the last byte of a member.
func tampered(t *testing.T, response []byte, member string) []byte {
	t.Helper()
	var r map[string]any
	if err := json.Unmarshal(response, &r); err != nil {
		t.Fatal(err)
	}
	members := r["response"].(map[string]any)
	value, err := base64.RawURLEncoding.DecodeString(members[member].(string))
	if err != nil {
		t.Fatal(err)
	}
	if member == "clientDataJSON" { // still valid, with the same members
		value = append(value, ' ')
	} else {
		value[len(value)-1] ^= 1
	}
	members[member] = base64.RawURLEncoding.EncodeToString(value)
	changed, _ := json.Marshal(r)
	return changed
}

func TestLG24_PasskeyOfAnotherUser(t *testing.T) {
	rp := relyingParty(t, nil)
	device := softauthenticator.New(home)
	c, err := created(t, rp, device, Create)
	if err != nil {
		t.Fatal(err)
	}
	a, err := ParseAssertion(respond(t, rp, device))
	if err != nil {
		t.Fatal(err)
	}
	_, err = rp.VerifyAssertion(start, signingIn, a, "somebody else", &c.Passkey)
	wantReason(t, "Alice's passkey for another user", err, ReasonUser)
	other := c.Passkey
	other.CredentialID = []byte("another")
	_, err = rp.VerifyAssertion(start, signingIn, a, alice.ID, &other)
	wantReason(t, "another passkey of Alice", err, ReasonUser)
	// A sign-in without a user handle names no one.
	device.Credentials[0].UserHandle = nil
	_, err = asserted(t, rp, device, &c.Passkey)
	wantReason(t, "no user handle", err, ReasonUser)
}

func TestLG26_KeysThatAreRefused(t *testing.T) {
	rp := relyingParty(t, nil)
	for what, change := range map[string]func(*softauthenticator.Authenticator){
		"ES384":    func(d *softauthenticator.Authenticator) { d.Algorithm = -35 },
		"RSA 1024": func(d *softauthenticator.Authenticator) { d.Algorithm, d.RSABits = softauthenticator.RS256, 1024 },
	} {
		t.Setenv("GODEBUG", "rsa1024min=0") // an authenticator may make such a key
		device := softauthenticator.New(home)
		change(device)
		_, err := created(t, rp, device, Create)
		wantReason(t, what, err, ReasonAlgorithm)
	}
	long := softauthenticator.New(home)
	long.CredentialIDBytes = identity.MaxCredentialIDBytes
	if _, err := created(t, rp, long, Create); err != nil {
		t.Errorf("the longest credential ID: %v", err)
	}
	long.CredentialIDBytes++
	_, err := created(t, rp, long, Create)
	wantReason(t, "a longer credential ID", err, ReasonMalformed)
}

func TestUserVerificationIsOptionalIfTheOperatorSaysSo(t *testing.T) {
	rp := relyingParty(t, func(c *Config) { c.OptionalUserVerification = true })
	device := softauthenticator.New(home)
	device.Flags = softauthenticator.UserPresent
	c, err := created(t, rp, device, Create)
	if err != nil {
		t.Fatal(err)
	}
	used, err := asserted(t, rp, device, &c.Passkey)
	if err != nil || used.UserVerified {
		t.Errorf("%+v, %v", used, err)
	}
}

// A browser may create a passkey without the user only where that was asked for, and the use of the
// passkey still requires the user.
func TestUpgradeNeedsNoUser(t *testing.T) {
	rp := relyingParty(t, nil)
	device := softauthenticator.New(home)
	device.Flags = softauthenticator.BackupEligible | softauthenticator.BackedUp
	_, err := created(t, rp, device, Create)
	wantReason(t, "a new passkey without the user", err, ReasonUserPresence)
	device = softauthenticator.New(home)
	device.Flags = softauthenticator.BackupEligible | softauthenticator.BackedUp
	c, err := created(t, rp, device, Upgrade)
	if err != nil {
		t.Fatal(err)
	}
	_, err = asserted(t, rp, device, &c.Passkey)
	wantReason(t, "a use without the user", err, ReasonUserPresence)
}

// attestationCA is a manufacturer of authenticators.
type attestationCA struct {
	root *x509.Certificate
	leaf []byte
	key  *ecdsa.PrivateKey
}

func newAttestationCA(t *testing.T, aaguid [16]byte) *attestationCA {
	t.Helper()
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Keys Inc. root"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: start.AddDate(-1, 0, 0), NotAfter: start.AddDate(10, 0, 0), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, rootKey.Public(), rootKey)
	if err != nil {
		t.Fatal(err)
	}
	ca := &attestationCA{}
	if ca.root, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	if ca.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	value, _ := asn1.Marshal(aaguid[:])
	ca.leaf, err = x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), BasicConstraintsValid: true, NotBefore: start.AddDate(-1, 0, 0), NotAfter: start.AddDate(10, 0, 0),
		Subject:         pkix.Name{Country: []string{"SE"}, Organization: []string{"Keys Inc."}, OrganizationalUnit: []string{"Authenticator Attestation"}, CommonName: "Key 5"},
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 45724, 1, 1, 4}, Value: value}},
	}, ca.root, ca.key.Public(), rootKey)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// attest makes a packed attestation statement (section 8.2).
func (ca *attestationCA) attest(signed []byte) (string, []byte, error) {
	hash := sha256.Sum256(signed)
	signature, err := ecdsa.SignASN1(rand.Reader, ca.key, hash[:])
	return "packed", softauthenticator.Map(
		softauthenticator.Text("alg"), softauthenticator.Int(softauthenticator.ES256),
		softauthenticator.Text("sig"), softauthenticator.Bytes(signature),
		softauthenticator.Text("x5c"), softauthenticator.Array(softauthenticator.Bytes(ca.leaf)),
	), err
}

func TestAttestationPolicy(t *testing.T) {
	model := [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	ca, other := newAttestationCA(t, model), newAttestationCA(t, model)
	roots := x509.NewCertPool()
	roots.AddCert(ca.root)
	rp := relyingParty(t, func(c *Config) { c.AttestationRoots, c.AAGUIDs = roots, []string{uuid(model[:])} })
	key := func() *softauthenticator.Authenticator {
		device := softauthenticator.New(home)
		device.Flags, device.AAGUID = softauthenticator.UserPresent|softauthenticator.UserVerified, model
		return device
	}
	good := key()
	good.Attest = ca.attest
	c, err := created(t, rp, good, Create)
	if err != nil || c.Passkey.Attestation != "packed" {
		t.Fatalf("a key of the manufacturer: %+v, %v", c, err)
	}
	_, err = created(t, rp, key(), Create)
	wantReason(t, "a key without attestation", err, ReasonAttestation)
	forged := key()
	forged.Attest = other.attest
	_, err = created(t, rp, forged, Create)
	wantReason(t, "a key of another manufacturer", err, ReasonAttestation)
	self := key()
	self.Attest = func([]byte) (string, []byte, error) {
		return "packed", softauthenticator.Map(softauthenticator.Text("alg"), softauthenticator.Int(-7), softauthenticator.Text("sig"), softauthenticator.Bytes([]byte("x"))), nil
	}
	_, err = created(t, rp, self, Create)
	wantReason(t, "self attestation", err, ReasonAttestation)
	stolen := key()
	stolen.Attest = func(signed []byte) (string, []byte, error) { return ca.attest([]byte("other bytes")) }
	_, err = created(t, rp, stolen, Create)
	wantReason(t, "the statement of another passkey", err, ReasonAttestation)
	wrong := key()
	wrong.Attest, wrong.AAGUID = ca.attest, [16]byte{9}
	_, err = created(t, rp, wrong, Create)
	wantReason(t, "another model", err, ReasonModel)
	lying := key()
	lying.Attest, lying.AAGUID = ca.attest, [16]byte{9}
	_, err = created(t, relyingParty(t, func(c *Config) { c.AttestationRoots = roots }), lying, Create)
	wantReason(t, "a model that the certificate does not confirm", err, ReasonAttestation)
	// Without a policy, a statement is not looked at.
	junk := key()
	junk.Attest = func([]byte) (string, []byte, error) { return "tpm", softauthenticator.Map(), nil }
	if c, err := created(t, relyingParty(t, nil), junk, Create); err != nil || c.Passkey.Attestation != "" {
		t.Errorf("without a policy: %+v, %v", c, err)
	}
}

func TestRPID(t *testing.T) {
	for issuer, want := range map[string][2]string{
		"https://Login.Example.com":        {"login.example.com", "https://login.example.com"},
		"https://login.example.com:443/a":  {"login.example.com", "https://login.example.com"},
		"https://login.example.com:8443/a": {"login.example.com", "https://login.example.com:8443"},
		"http://localhost:9000":            {"localhost", "http://localhost:9000"},
		"https://bücher.example":           {"xn--bcher-kva.example", "https://xn--bcher-kva.example"},
	} {
		rp, err := New(Config{Issuer: issuer, Secret: make([]byte, 32)})
		if err != nil || rp.rpID != want[0] || rp.origin != want[1] {
			t.Errorf("%s: %+v, %v", issuer, rp, err)
		}
	}
	for _, issuer := range []string{"http://127.0.0.1:9000", "http://[::1]:9000"} {
		if _, err := New(Config{Issuer: issuer, Secret: make([]byte, 32)}); !errors.Is(err, ErrNoDomain) {
			t.Errorf("%s: %v", issuer, err)
		}
	}
	for _, id := range []string{"com", "Example.com", "example.com.", "https://example.com", "example.com:443", "127.0.0.1", "*.example.com", "bücher.example", ""} {
		if id == "" {
			continue
		}
		if err := CheckRPID(id); err == nil {
			t.Errorf("the RP ID %q is accepted", id)
		}
	}
}

func TestModelsAreWellFormed(t *testing.T) {
	if len(models()) < 50 {
		t.Errorf("there are %d models", len(models()))
	}
	for aaguid, name := range models() {
		if _, err := ParseAAGUID(aaguid); err != nil || name == "" || len(name) > 40 {
			t.Errorf("%s %q: %v", aaguid, name, err)
		}
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	config := Config{Issuer: issuer, Secret: []byte("hunter2!hunter2!hunter2!hunter2!")}
	rp, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	for _, printed := range []string{fmt.Sprintf("%v %+v %#v", config, config, config), fmt.Sprintf("%v %+v %#v", rp, rp, rp), fmt.Sprintf("%+v", Ceremony{SignIn, "hunter2", ""})} {
		if strings.Contains(printed, "hunter2") || strings.Contains(printed, "104, 117") {
			t.Error(printed)
		}
	}
}

func FuzzAssertion(f *testing.F) {
	rp := relyingParty(f, nil)
	device := softauthenticator.New(home)
	c, err := created(f, rp, device, Create)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(respond(f, rp, device))
	f.Add([]byte(`{"id":"eA","rawId":"eA","type":"public-key","response":{"clientDataJSON":"e30","authenticatorData":"AAAA","signature":"AA"}}`))
	f.Fuzz(func(t *testing.T, response []byte) {
		a, err := ParseAssertion(response)
		if err == nil {
			_, err = rp.VerifyAssertion(start, signingIn, a, alice.ID, &c.Passkey)
		}
		if _, refused := errors.AsType[*RefusedError](err); err != nil && !refused {
			t.Errorf("the error is %v", err)
		}
	})
}

// FuzzAttestationObject varies the CBOR of a new passkey; the client data is right.
func FuzzAttestationObject(f *testing.F) {
	plain, attested := relyingParty(f, nil), relyingParty(f, func(c *Config) { c.AttestationRoots = x509.NewCertPool() })
	var answer map[string]any
	for _, alg := range []int{softauthenticator.ES256, softauthenticator.EdDSA} {
		device := softauthenticator.New(home)
		device.Algorithm = alg
		options, err := plain.CreationOptions(start, creating(Create), alice, "Alice", nil)
		if err != nil {
			f.Fatal(err)
		}
		response, err := device.Create(options)
		if err != nil {
			f.Fatal(err)
		}
		if err := json.Unmarshal(response, &answer); err != nil {
			f.Fatal(err)
		}
		object, err := base64.RawURLEncoding.DecodeString(answer["response"].(map[string]any)["attestationObject"].(string))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(object)
	}
	members := answer["response"].(map[string]any)
	f.Fuzz(func(t *testing.T, object []byte) {
		members["attestationObject"] = base64.RawURLEncoding.EncodeToString(object)
		response, err := json.Marshal(answer)
		if err != nil {
			t.Fatal(err)
		}
		for _, rp := range []*RelyingParty{plain, attested} {
			c, err := rp.VerifyCreation(start, creating(Create), response)
			if _, refused := errors.AsType[*RefusedError](err); err != nil && !refused {
				t.Errorf("the error is %v", err)
			}
			if err == nil && (len(c.Passkey.CredentialID) > identity.MaxCredentialIDBytes || len(c.Passkey.PublicKey) > maxPublicKeyBytes) {
				t.Errorf("the passkey is %+v", c.Passkey)
			}
		}
	})
}
