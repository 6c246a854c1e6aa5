package guides

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/internal/database"
	"github.com/valetkey/valetkey/internal/mailtest"
	"github.com/valetkey/valetkey/internal/softauthenticator"
)

const (
	firstPassword = "a lighthouse keeper's cat"
	nextPassword  = "the cat of another lighthouse"
	lastPassword  = "no more cats in this lighthouse"
)

// peopleSite is a server with the settings of people.md.
type peopleSite struct {
	*site
	*guide
	t *testing.T
	// mailSettings are those of "Connect a mail server", with the mail server of the test.
	mailSettings string
	mail         *mailbox
	breaches     chan string // paths that the service for breached passwords was asked for
	callback     string      // the redirect URI of a client, whose page shows its query
}

func newPeopleSite(t *testing.T) *peopleSite {
	p := &peopleSite{site: newSite(t), guide: openGuide(t, "people.md"), t: t, breaches: make(chan string, 100)}
	application := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "<p>%s</p>", html.EscapeString(r.URL.RawQuery))
	}))
	t.Cleanup(application.Close)
	p.callback = application.URL + "/callback"
	p.mail = &mailbox{Server: mailtest.Start(t, mailtest.Options{RequireAuth: true}), t: t}
	p.mailSettings = p.block("Connect a mail server", 0,
		"host: smtp.example.com", fmt.Sprintf("host: %s\n    tls: starttls\n    port: %d", p.mail.Host, p.mail.Port),
		"/etc/valetkey/smtp.password", p.file("smtp.password", mailtest.Password+"\n"))
	return p
}

// outgoing lets the server trust the mail server of the test, and reach loopback.
func (p *peopleSite) outgoing() string {
	return "outgoing:\n  certificate_authorities: " + p.mail.CertificateAuthority + "\n  networks: [127.0.0.1]\n"
}

// declarations are what the rules of the guide name, and a user for them.
const declarations = `
scopes:
  - name: payments
    description: Pay
clients:
  - client_id: payroll
    client_name: Payroll
    redirect_uris: [CALLBACK]
    token_endpoint_auth_method: none
    scope: openid payments
    skip_consent: true
users:
  - username: grace
    password: a password of the staff
    groups: [staff]
`

// TestPeople follows people.md: it loads each of its blocks, runs each of its commands, and sees in a running
// server what the text promises.
func TestPeople(t *testing.T) {
	p := newPeopleSite(t)
	p.tryDemo()
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.breaches <- r.URL.Path
	}))
	defer service.Close()
	p.serve(p.mailSettings, p.outgoing(), "sign_up: true",
		p.block("Passkeys", 0, "rp_id: example.com", "rp_id: localhost"),
		p.block("Require more than a password", 0),
		p.block("Let users back in", 0),
		p.block("Sign in by email", 0),
		p.block("Which passwords are allowed", 0, "https://api.pwnedpasswords.com", service.URL),
		p.block("The account page", 0, "/var/lib/valetkey/places.mmdb", p.absolute("testdata/places.mmdb")),
		p.block("The account page", 1),
		p.block("The account page", 2),
		strings.ReplaceAll(declarations, "CALLBACK", p.callback))
	p.sendTestMessage()
	ada := p.confirmAddress()
	p.changeAddress(ada)
	p.choosePassword()
	p.chooseUsername(ada)
	key := p.setUpApp(ada)
	p.signInWithMessage(key)
	p.addPasskey(ada)
	p.requireMore()
	p.getBackIn()
	p.account()
	p.signUpModes()
	p.attestation()
	p.templates()
}

// tryDemo does what "Try it without a mail server" says.
func (p *peopleSite) tryDemo() {
	path, err := program()
	if err != nil {
		p.t.Fatal(err)
	}
	command := strings.Fields(p.command("Try it without a mail server", 0))
	ctx, cancel := context.WithCancel(p.t.Context())
	defer cancel()
	demo := exec.CommandContext(ctx, path, command[1:]...)
	demo.Cancel = func() error { return demo.Process.Signal(syscall.SIGTERM) }
	output, err := demo.StdoutPipe()
	if err == nil {
		demo.Stderr = demo.Stdout
		err = demo.Start()
	}
	if err != nil {
		p.t.Fatal(err)
	}
	defer demo.Wait() // it was told to end
	defer cancel()
	lines := bufio.NewScanner(output)
	printed := regexp.MustCompile(`http://127\.0\.0\.1:\d+/`)
	address := ""
	for address == "" && lines.Scan() {
		address = printed.FindString(lines.Text())
	}
	go io.Copy(io.Discard, output)
	p.says("Try it without a mail server", "follow *ask for a new password*", "`ada`", "in the *inbox*")
	b := p.browser()
	start := b.open(address)
	start.follow("ask for a new password").submit(english("common.send"), url.Values{"identifier": {"ada"}}).has(english("common.mailed-code"))
	inbox := start.follow("inbox")
	inbox.has("Your code")
	inbox.follow("/reset").has("New password")
	p.browser().open(inbox.target("/reset")).has(english("common.mailed-code"))
}

// sendTestMessage runs the command of "Connect a mail server".
func (p *peopleSite) sendTestMessage() {
	command := p.command("Connect a mail server", 0)
	p.runs(command)
	letter := p.mail.get("you@example.com", "")
	if !letter.TLS || !letter.Authenticated || letter.From != "login@example.com" {
		p.t.Errorf("the message is from %s, with TLS: %v, authenticated: %v", letter.From, letter.TLS, letter.Authenticated)
	}
	p.says("Connect a mail server", "The command prints what the mail server says if it refuses")
	p.mail.RefuseNext(mailtest.Permanent)
	if output, err := p.run(command); err == nil || !strings.Contains(output, "no such user here") {
		p.t.Errorf("refused: %v\n%s", err, output)
	}
}

// signUp creates an account, and returns the page that asks for the code if there is an address.
func (p *peopleSite) signUp(b *visitor, username, email string) *page {
	p.t.Helper()
	return b.open(p.issuer+"/sign-up").submit(english("sign-up.submit"), url.Values{"username": {username}, "password": {firstPassword}, "email": {email}})
}

// signIn signs in with a password, and returns the page that follows.
func (p *peopleSite) signIn(b *visitor, identifier, password string) *page {
	p.t.Helper()
	return b.open(p.issuer+"/sign-in").submit("Sign in", url.Values{"identifier": {identifier}, "password": {password}})
}

// confirmAddress signs ada up, as "What happens to a message" and "Confirm addresses" say.
func (p *peopleSite) confirmAddress() *visitor {
	ada := p.browser()
	p.mail.RefuseNext(mailtest.Temporary)
	asks := p.signUp(ada, "ada", "ada@example.com")
	asks.has(english("common.mailed-code"))
	p.says("Confirm addresses", "users cannot sign in with it")
	p.signIn(p.browser(), "ada@example.com", firstPassword).has(english("alert.wrong-credentials"))
	letter := p.mail.get("ada@example.com", english("mail.verify.subject")) // at the second attempt, after 10 seconds
	p.browser().open(p.linkOf(letter)).has(english("email.confirm.elsewhere"), codeOf(p.t, letter))
	asks.submit("Confirm", url.Values{"code": {codeOf(p.t, letter)}}).has("Confirmed")
	p.browser().open(p.linkOf(letter)).has(english("error.link-over.title"))
	p.signIn(p.browser(), "ada@example.com", firstPassword).has("Your account")
	p.mail.get("ada@example.com", english("mail.new-sign-in.subject"))

	bob := p.browser()
	taken := p.signUp(bob, "bob", "ada@example.com") // looks the same
	taken.has(english("common.mailed-code"))
	if letter := p.mail.get("ada@example.com", english("mail.address-in-use.subject")); strings.Contains(letter.Text, "Your code") {
		p.t.Errorf("the owner of the address is sent a code:\n%s", letter.Text)
	}
	p.mail.RefuseNext(mailtest.Permanent)
	bob.open(p.issuer+"/account/email").submit(english("common.send"), url.Values{"email": {"nobody@example.com"}, "current": {firstPassword}})
	p.says("What happens to a message", "`mail.sent`, `mail.postponed` with the cause, or `mail.failed`", "It contains no address, code or link")
	p.until("the log has the events of messages", func() bool {
		log := p.logged()
		return strings.Contains(log, "mail.sent") && strings.Contains(log, "mail.postponed") && strings.Contains(log, "mail.failed")
	})
	for _, secret := range []string{"ada@example.com", "nobody@example.com", codeOf(p.t, letter), "token="} {
		if strings.Contains(p.logged(), secret) {
			p.t.Errorf("the log contains %s", secret)
		}
	}
	return ada
}

// changeAddress changes the address and undoes that, as "Confirm addresses" and "Notices" say.
func (p *peopleSite) changeAddress(ada *visitor) {
	asks := ada.open(p.issuer+"/account/email").submit(english("common.send"), url.Values{"email": {"ada@example.net"}, "current": {firstPassword}})
	asks.submit("Confirm", url.Values{"code": {codeOf(p.t, p.mail.get("ada@example.net", english("mail.verify.subject")))}}).has("ada@example.net")
	notice := p.mail.get("ada@example.com", english("mail.address-changed.subject"))
	if !strings.Contains(notice.Text, "127.0.0.1") {
		p.t.Errorf("the notice does not say from where:\n%s", notice.Text)
	}
	p.says("Confirm addresses", "the link undoes the change, and ends all sessions and tokens")
	p.browser().open(p.linkOf(notice)).submit(english("email.undo.short"), nil).has(english("email.undone.title"))
	ada.open(p.issuer + "/account").has(english("common.identifier")) // signed out
	p.signIn(ada, "ada", firstPassword).has("ada@example.com")
}

// choosePassword does what "New passwords" and "Which passwords are allowed" say.
func (p *peopleSite) choosePassword() {
	ada, stranger := p.browser(), p.browser()
	p.says("New passwords", "`/.well-known/change-password`", "A new password ends everything", "valid for an hour")
	stranger.open(p.issuer + "/.well-known/change-password").has(english("common.identifier"))
	known := ada.open(p.issuer+"/sign-in").follow(english("forgot.title")).submit(english("common.send"), url.Values{"identifier": {"ada"}})
	unknown := stranger.open(p.issuer+"/forgot").submit(english("common.send"), url.Values{"identifier": {"nobody"}})
	if known.text() != unknown.text() {
		p.t.Errorf("the pages of a known and an unknown account differ:\n%s\n%s", known.text(), unknown.text())
	}
	link := p.linkOf(p.mail.get("ada@example.com", english("mail.reset.subject")))
	stranger.open(link).has(english("common.mailed-code"))
	there := p.browser()
	p.signIn(there, "ada", firstPassword).has("Your account")
	chooses := ada.open(link)
	chooses.submit(english("password.submit"), url.Values{"new": {"short"}}).has("Use at least 15 characters")
	chooses.submit(english("password.submit"), url.Values{"new": {"ada ada ada ada ada"}}).has("too similar")
	chooses.submit(english("password.submit"), url.Values{"new": {"passwordpassword"}}).has("password")
	chooses.submit(english("password.submit"), url.Values{"new": {nextPassword}}).has(english("reset.done.title"))
	p.mail.get("ada@example.com", english("mail.password-changed.subject"))
	there.open(p.issuer + "/account").has(english("common.identifier"))
	p.says("Which passwords are allowed", "5 of the 40 hexadecimal digits")
	p.until("the service was asked", func() bool { return len(p.breaches) > 0 })
	if path := <-p.breaches; !regexp.MustCompile(`^/range/[0-9A-F]{5}$`).MatchString(path) {
		p.t.Errorf("the service was asked for %s", path)
	}
}

// chooseUsername does what "Which usernames are allowed" and the account page say.
func (p *peopleSite) chooseUsername(ada *visitor) {
	p.says("Which usernames are allowed", "*сосо* in Cyrillic", "Invisible characters")
	for _, name := range []string{"сосо", "a\u200bda", "ADA"} {
		p.signUp(p.browser(), name, "").has("Create an account")
	}
	p.signIn(ada, "ada", nextPassword)
	p.says("The account page", "The former one signs them in for another 90 days and stays reserved")
	ada.open(p.issuer+"/account/username").submit(english("username.submit"), url.Values{"username": {"lovelace"}}).has("lovelace")
	p.signUp(p.browser(), "Ada", "").has("already taken")
	p.signIn(p.browser(), "ada", nextPassword).has("lovelace")
	ada.open(p.issuer+"/account/username").submit(english("username.submit"), url.Values{"username": {"ada"}}).has("ada")
}

func (p *peopleSite) appCode(key string, step time.Duration) string {
	p.t.Helper()
	code, err := totp.GenerateCode(strings.ReplaceAll(key, " ", ""), time.Now().Add(step*30*time.Second))
	if err != nil {
		p.t.Fatal(err)
	}
	return code
}

// setUpApp does what "Second factors" says, and returns the key of the app.
func (p *peopleSite) setUpApp(ada *visitor) (key string) {
	p.says("Second factors", "each code works once", "ten **recovery codes**", "When three or fewer are left")
	shows := ada.open(p.issuer + "/account/totp/new")
	key = regexp.MustCompile(`(?:[A-Z2-7]{4} ){7}[A-Z2-7]{4}`).FindString(shows.text())
	if key == "" {
		p.t.Fatalf("the page has no key:\n%s", shows.text())
	}
	p.follows30Seconds()
	shows.submit("Add", url.Values{"code": {p.appCode(key, -1)}, "name": {"phone"}})
	p.mail.get("ada@example.com", english("mail.method-added.subject"))
	codes := ada.open(p.issuer+"/account/recovery-codes").submit(english("recovery-codes.create"), nil)
	all := regexp.MustCompile(`[0-9a-z]{4}(?:-[0-9a-z]{4}){3}`).FindAllString(codes.text(), -1)
	if len(all) != 10 {
		p.t.Fatalf("there are %d recovery codes", len(all))
	}
	asks := p.signIn(p.browser(), "ada", nextPassword)
	asks.has(english("method.recovery-code"))
	code := p.appCode(key, 0)
	asks = asks.follow(english("method.totp"))
	asks.has(english("totp.prove.title"))
	asks.submit("Continue", url.Values{"code": {code}}).has("Your account")
	again := p.signIn(p.browser(), "ada", nextPassword).follow(english("method.totp"))
	again.submit("Continue", url.Values{"code": {code}}).has(english("totp.prove.wrong"))
	for i, code := range all[:7] {
		b := p.browser()
		p.signIn(b, "ada", nextPassword)
		in := b.open(p.issuer+"/sign-in/recovery-code").submit("Continue", url.Values{"code": {code}})
		if i == 6 {
			in.has(english("recovery-codes.few.title"), "3 codes are left")
			p.mail.get("ada@example.com", english("mail.recovery-codes-low.subject"))
			b.open(p.issuer + "/account").has("3 codes are left")
		} else {
			in.has("Your account")
			p.mail.get("ada@example.com", english("mail.recovery-code-used.subject"))
		}
	}
	return key
}

// follows30Seconds waits until a step of an app has just begun, so that the codes of one page are still valid on
// the next one.
func (p *peopleSite) follows30Seconds() {
	p.until("a step of the app begins", func() bool { return time.Now().Unix()%30 < 10 })
}

// signInWithMessage does what english("email-sign-in.use") says.
func (p *peopleSite) signInWithMessage(key string) {
	b := p.browser()
	asks := b.open(p.issuer+"/sign-in").follow(english("email-sign-in.use")).submit(english("common.send"), url.Values{"identifier": {"ada"}})
	letter := p.mail.get("ada@example.com", english("mail.sign-in.subject"))
	other := p.browser().open(p.linkOf(letter))
	other.has(codeOf(p.t, letter))
	p.says("Sign in by email", "Users with a second factor are still asked for it")
	asks.submit("Sign in", url.Values{"code": {codeOf(p.t, letter)}}).has(english("method.totp"))
}

// addPasskey does what "Passkeys" says, for browsers whose user has no second device.
func (p *peopleSite) addPasskey(*visitor) {
	carol := p.browser()
	p.signUp(carol, "carol", "")
	device := softauthenticator.New(p.issuer)
	device.Flags &^= softauthenticator.BackupEligible | softauthenticator.BackedUp // a security key
	options := carol.post(p.issuer+"/passkey/options", url.Values{"for": {"create"}})
	created, err := device.Create([]byte(options))
	if err != nil {
		p.t.Fatalf("%v: %s", err, options)
	}
	carol.post(p.issuer+"/account/passkeys", url.Values{"response": {string(created)}})
	carol.open(p.issuer + "/account/passkeys").has(english("passkey.second")) // it cannot leave its device
	p.says("Passkeys", "has a button that removes it", "`/.well-known/passkey-endpoints`")
	carol.open(p.issuer+"/account/password").submit(english("password.remove"), nil)
	p.signIn(p.browser(), "carol", firstPassword).has(english("alert.wrong-credentials"))
	again := p.browser()
	options = again.post(p.issuer+"/passkey/options", url.Values{"for": {"sign_in"}})
	assertion, err := device.Get([]byte(options))
	if err != nil {
		p.t.Fatalf("%v: %s", err, options)
	}
	again.post(p.issuer+"/sign-in/passkey", url.Values{"response": {string(assertion)}})
	again.open(p.issuer + "/account").has("carol")
	var endpoints map[string]string
	text := again.get(p.issuer + "/.well-known/passkey-endpoints")
	if err := json.Unmarshal([]byte(text), &endpoints); err != nil || endpoints["enroll"] != p.issuer+"/account/passkeys" || endpoints["manage"] != p.issuer+"/account/passkeys" {
		p.t.Errorf("passkey-endpoints: %v\n%s", err, text)
	}
}

// requireMore does what "Require more than a password" says with the rules of its block.
func (p *peopleSite) requireMore() {
	ask := func(b *visitor, more ...string) *page {
		p.t.Helper()
		query := url.Values{
			"response_type": {"code"}, "client_id": {"payroll"}, "redirect_uri": {p.callback}, "state": {"s"},
			"code_challenge": {"E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"}, "code_challenge_method": {"S256"},
		}
		for i := 0; i < len(more); i += 2 {
			query.Set(more[i], more[i+1])
		}
		return b.open(p.issuer + "/authorize?" + query.Encode())
	}
	grace := p.browser()
	p.says("Require more than a password", "Until that is done, they can do nothing else", "`unmet_authentication_requirements`")
	p.signIn(grace, "grace", "a password of the staff").has(english("factor.set-up")) // a group of the first rule
	grace.open(p.issuer + "/account").hasNot(english("account.sessions"))
	bob := p.browser()
	in := url.Values{"identifier": {"bob"}, "password": {firstPassword}}
	ask(bob, "scope", "openid").submit("Sign in", in).has("code=")
	ask(bob, "scope", "openid payments").has(english("factor.set-up")) // raised in place: the second rule
	ask(bob, "scope", "openid", "acr_values", "2").has("code=")
	essential := `{"id_token":{"acr":{"essential":true,"values":["urn:unknown"]}}}`
	ask(bob, "scope", "openid", "claims", essential).has("error=")
	ask(bob, "scope", "openid", "max_age", "0").has("Password")
}

// change changes a user in the database of the running server, as if time had passed.
func (p *peopleSite) change(username string, change func(*identity.User)) {
	p.t.Helper()
	config, err := configuration.Read(filepath.Join(p.root, "valetkey.yaml"))
	if err != nil {
		p.t.Fatal(err)
	}
	store, err := database.Open(p.t.Context(), &config, slog.New(slog.DiscardHandler))
	if err != nil {
		p.t.Fatal(err)
	}
	defer store.Close()
	user, err := store.UserByIdentifier(p.t.Context(), username)
	if err == nil {
		err = store.UpdateUser(p.t.Context(), user.ID, func(u *identity.User) error {
			change(u)
			return nil
		})
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// getBackIn goes the ways of "Let users back in".
func (p *peopleSite) getBackIn() {
	// A message alone, after the delay.
	b := p.browser()
	b.open(p.issuer+"/forgot").follow(english("recovery.link")).submit(english("common.send"), url.Values{"identifier": {"ada"}})
	begins := b.open(p.linkOf(p.mail.get("ada@example.com", english("mail.recovery.subject"))))
	begins.submit(english("recovery.begin.submit"), nil).has(english("recovery.begun.title"))
	stop := p.linkOf(p.mail.get("ada@example.com", english("mail.recovery-begun.subject")))
	p.browser().open(stop).submit(english("recovery.stop.submit"), nil).has(english("recovery.stopped.title"))
	p.mail.get("ada@example.com", english("mail.recovery-stopped.subject"))
	b.open(p.issuer+"/forgot").follow(english("recovery.link")).submit(english("common.send"), url.Values{"identifier": {"ada"}})
	b.open(p.linkOf(p.mail.get("ada@example.com", english("mail.recovery.subject")))).submit(english("recovery.begin.submit"), nil)
	p.mail.get("ada@example.com", english("mail.recovery-begun.subject"))
	p.change("ada", func(u *identity.User) { // 72 hours later
		waits := *u.Account.Recovery
		waits.StartedAt, waits.ReadyAt = waits.StartedAt.Add(-72*time.Hour), waits.ReadyAt.Add(-72*time.Hour)
		u.Account.Recovery = &waits
	})
	ready := p.linkOf(p.mail.get("ada@example.com", english("mail.recovery-ready.subject")))
	p.browser().open(ready).submit(english("password.submit"), url.Values{"new": {lastPassword}})
	p.mail.get("ada@example.com", english("mail.recovered-by-mail.subject"))
	ada := p.browser()
	p.says("Let users back in", "the sign-in that follows can only be used to set up another one")
	p.signIn(ada, "ada", lastPassword).hasOne(english("enrol.title"), english("factor.set-up"))
	ada.open(p.issuer + "/account").hasNot(english("account.sessions"))

	// A link from an operator.
	link, _, _ := strings.Cut(p.runs(p.command("Let users back in", 0)), "\n")
	p.browser().open(link).submit(english("password.submit"), url.Values{"new": {firstPassword}})
	ada = p.browser()
	set := p.signIn(ada, "ada", firstPassword).submit(english("factor.set-up"), nil).follow(english("method.totp"))
	key := regexp.MustCompile(`(?:[A-Z2-7]{4} ){7}[A-Z2-7]{4}`).FindString(set.text())
	p.follows30Seconds()
	set.submit("Add", url.Values{"code": {p.appCode(key, -1)}})
	ada.open(p.issuer + "/account").has("Your account")

	// What was lost is removed by the operator. These commands are within the text.
	p.says("Let users back in", "`valetkey users show ada`", "`valetkey users remove-method ada ID`")
	shown := p.runs("valetkey users show ada --json --config valetkey.yaml")
	id := regexp.MustCompile(`"id": *"([A-Za-z0-9_-]{22})",\s*"method": *"totp"`).FindStringSubmatch(shown)
	if id == nil {
		p.t.Fatalf("users show does not list the app:\n%s", shown)
	}
	p.runs("valetkey users remove-method ada " + id[1] + " --config valetkey.yaml")
	p.signIn(p.browser(), "ada", firstPassword).hasOne(english("enrol.title"), english("factor.set-up"))
	p.change("ada", func(u *identity.User) { u.Authenticators = nil }) // for what follows
}

// account does what "The account page" says.
func (p *peopleSite) account() {
	ada := p.browser()
	p.signIn(ada, "ada", firstPassword).has("Vienna", "This browser")
	var document map[string]any
	text := ada.post(p.issuer+"/account/export", nil)
	if err := json.Unmarshal([]byte(text), &document); err != nil {
		p.t.Fatalf("%v\n%s", err, text)
	}
	for name := range document {
		p.says("The account page", "`"+name+"`")
	}
	ada.open(p.issuer+"/account/delete").submit(english("delete.submit"), nil).has(english("delete.done"))
	kept := p.signIn(ada, "ada", firstPassword)
	kept.has(english("restore.title"))
	kept.submit(english("restore.submit"), nil).has("Your account will not be deleted")
	ada.open(p.issuer+"/account/not-me").submit(english("not-me.lock"), nil).has(english("not-me.done"))
	p.says("The account page", "Nobody can sign in until a new password was chosen")
	p.signIn(p.browser(), "ada", firstPassword).has(english("alert.wrong-credentials"))
	asks := ada.open(p.issuer+"/forgot").submit(english("common.send"), url.Values{"identifier": {"ada"}})
	asks.submit(english("password.submit"), url.Values{"code": {codeOf(p.t, p.mail.get("ada@example.com", english("mail.reset.subject")))}, "new": {nextPassword}})
	p.signIn(ada, "ada", nextPassword).has("Your account")
	ada.open(p.issuer+"/account/delete").submit(english("delete.submit"), nil)
	p.change("ada", func(u *identity.User) { u.Account.DeleteAfter = u.Account.DeleteAfter.Add(-14 * 24 * time.Hour) })
	p.until("the account is erased", func() bool { return strings.Contains(p.logged(), "account.erased") })
	p.signIn(p.browser(), "ada", nextPassword).has(english("alert.wrong-credentials"))
}

// signUpModes starts a server for each row of "Who may sign up".
func (p *peopleSite) signUpModes() {
	printed, sent := p.command("Who may sign up", 0), p.command("Who may sign up", 1)
	for _, settings := range []string{"sign_up: true\nsign_up_requires: invitation", "sign_up: true\nsign_up_requires: email_domain\nsign_up_email_domains: [example.com]"} {
		for line := range strings.Lines(settings) {
			p.says("Who may sign up", strings.TrimSpace(line))
		}
	}
	p.serve(p.mailSettings, p.outgoing())
	if page := p.browser().open(p.issuer + "/sign-up"); strings.Contains(page.text(), english("sign-up.submit")) {
		p.t.Error("without sign_up, there is a page to sign up")
	}
	p.serve(p.mailSettings, p.outgoing(), "sign_up: true\nsign_up_requires: invitation")
	p.browser().open(p.issuer + "/sign-up").has(english("sign-up.closed.title"))
	link, _, _ := strings.Cut(p.runs(printed), "\n")
	p.browser().open(link).submit(english("sign-up.submit"), url.Values{"username": {"dora"}, "password": {firstPassword}}).has("dora")
	if used := p.browser().open(link); strings.Contains(used.text(), english("sign-up.submit")) {
		p.t.Error("an invitation works twice")
	}
	p.runs(sent)
	invited := p.linkOf(p.mail.get("grace@example.com", english("mail.invitation.subject")))
	p.browser().open(invited).submit(english("sign-up.submit"), url.Values{"username": {"hopper"}, "password": {firstPassword}}).has("grace@example.com", "Confirmed")

	p.serve(p.mailSettings, p.outgoing(), "sign_up: true\nsign_up_requires: email_domain\nsign_up_email_domains: [example.com]")
	p.browser().open(p.issuer+"/sign-up").submit(english("common.send"), url.Values{"email": {"eve@sub.example.com"}}).has("Use an address at")
	eve := p.browser()
	asks := eve.open(p.issuer+"/sign-up").submit(english("common.send"), url.Values{"email": {"eve@example.com"}})
	code := codeOf(p.t, p.mail.get("eve@example.com", ""))
	asks.submit(english("sign-up.submit"), url.Values{"code": {code}, "username": {"eve"}, "password": {firstPassword}}).has("eve@example.com", "Confirmed")
}

// attestation checks the block for keys that the operator hands out.
func (p *peopleSite) attestation() {
	roots := p.file("keys.pem", "")
	p.runs("cp " + p.mail.CertificateAuthority + " " + roots)
	p.serve(p.mailSettings, p.outgoing(), "sign_up: true", p.block("Passkeys", 1, "/etc/valetkey/keys.pem", roots))
	b := p.browser()
	p.signUp(b, "frida", "")
	p.says("Passkeys", "Users then cannot use the passkeys of phones and password managers")
	created, err := softauthenticator.New(p.issuer).Create([]byte(b.post(p.issuer+"/passkey/options", url.Values{"for": {"create"}})))
	if err != nil {
		p.t.Fatal(err)
	}
	b.post(p.issuer+"/account/passkeys", url.Values{"response": {string(created)}})
	if page := b.open(p.issuer + "/account/passkeys"); strings.Contains(page.text(), english("passkey.second")) {
		p.t.Errorf("a passkey without an attestation was added:\n%s", page.text())
	}
}

// templates uses the template of "Use your own templates".
func (p *peopleSite) templates() {
	p.file("templates/reset.txt", p.block("Use your own templates", 0))
	settings := p.mailSettings + "  templates: " + filepath.Join(p.root, "templates") + "\n"
	p.serve(settings, p.outgoing())
	p.browser().open(p.issuer+"/forgot").submit(english("common.send"), url.Values{"identifier": {"hopper"}})
	letter := p.mail.get("grace@example.com", "New password for")
	if !strings.Contains(letter.Text, "Your code is ") || !strings.Contains(letter.Text, "Or open "+p.issuer+"/reset?") {
		p.t.Errorf("the message is not that of the template:\n%s", letter.Text)
	}
	p.says("Use your own templates", "A mistake, or a file name that no message uses, is an error")
	p.file("templates/made-up.txt", "{{.Greeting}}")
	if output, err := p.run("valetkey check valetkey.yaml"); err == nil || !strings.Contains(output, "made-up") {
		p.t.Errorf("a file that no message uses: %v\n%s", err, output)
	}
}

// mailbox has the messages that have arrived and that nobody has read yet.
type mailbox struct {
	*mailtest.Server
	t      *testing.T
	unread []*mailtest.Message
}

// get returns the first message to a recipient whose subject contains a text, and waits for it.
func (m *mailbox) get(to, subject string) *mailtest.Message {
	m.t.Helper()
	for {
		i := slices.IndexFunc(m.unread, func(letter *mailtest.Message) bool {
			return letter.To == to && strings.Contains(letter.Subject(), subject)
		})
		if i >= 0 {
			letter := m.unread[i]
			m.unread = slices.Delete(m.unread, i, i+1)
			return letter
		}
		select {
		case letter := <-m.Received():
			m.unread = append(m.unread, letter)
		case <-time.After(3 * time.Minute):
			var have bytes.Buffer
			for _, letter := range m.unread {
				fmt.Fprintf(&have, "to %s: %s\n", letter.To, letter.Subject())
			}
			m.t.Fatalf("no message %q to %s has arrived:\n%s", subject, to, have.String())
		}
	}
}

var codeInMail = regexp.MustCompile(`Your code: (\d{4} \d{4})`)

// codeOf returns the code of a message.
func codeOf(t *testing.T, letter *mailtest.Message) string {
	t.Helper()
	match := codeInMail.FindStringSubmatch(letter.Text)
	if match == nil {
		t.Fatalf("the message has no code:\n%s", letter.Text)
	}
	return match[1]
}

// linkOf returns the link of a message.
func (s *site) linkOf(letter *mailtest.Message) string {
	s.t.Helper()
	link := regexp.MustCompile(regexp.QuoteMeta(s.issuer) + `/\S+`).FindString(letter.Text)
	if link == "" {
		s.t.Fatalf("the message has no link:\n%s", letter.Text)
	}
	return link
}

// absolute returns the absolute path of a file of this package.
func (s *site) absolute(name string) string {
	s.t.Helper()
	path, err := filepath.Abs(name)
	if err != nil {
		s.t.Fatal(err)
	}
	return path
}

// get returns what is at an address that is no page.
func (v *visitor) get(address string) string {
	v.t.Helper()
	response, err := v.client.Get(address)
	if err != nil {
		v.t.Fatal(err)
	}
	return v.body(response)
}

// post sends a form as a script does, and returns the response.
func (v *visitor) post(address string, form url.Values) string {
	v.t.Helper()
	request, err := http.NewRequest(http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		v.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Origin", request.URL.Scheme+"://"+request.URL.Host)
	response, err := v.client.Do(request)
	if err != nil {
		v.t.Fatal(err)
	}
	return v.body(response)
}

func (v *visitor) body(response *http.Response) string {
	v.t.Helper()
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	return string(text)
}

// hasOne fails unless the page has one of the texts.
func (p *page) hasOne(texts ...string) {
	p.t.Helper()
	if !slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(p.text(), text) }) {
		p.t.Fatalf("%s has none of %q:\n%s", p.at, texts, p.text())
	}
}

// hasNot fails if the page has a text.
func (p *page) hasNot(text string) {
	p.t.Helper()
	if strings.Contains(p.text(), text) {
		p.t.Fatalf("%s has %q:\n%s", p.at, text, p.text())
	}
}

// target returns where the link with a text leads.
func (p *page) target(text string) string {
	p.t.Helper()
	for n := range p.root.Descendants() {
		if n.Data == "a" && strings.Contains(textOf(n), text) {
			to, err := p.at.Parse(attribute(n, "href"))
			if err != nil {
				p.t.Fatal(err)
			}
			return to.String()
		}
	}
	p.t.Fatalf("%s has no link %q:\n%s", p.at, text, p.text())
	return ""
}
