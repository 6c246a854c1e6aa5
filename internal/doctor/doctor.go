// Package doctor finds what is wrong with a running server and with what surrounds it: the proxy, TLS,
// the clock, the database, mail, files. It looks from outside, at the issuer's URL, and, with a
// configuration, from inside. It changes nothing.
//
//	doctor.go      Options, Run, Report
//	findings.go    the table of all findings, with their fixes
//	client.go      requests, questions to the server (internal/probe)
//	tls.go         certificates
//	server.go      whether the server responds, the clock, the process
//	proxy.go       what the proxy makes of requests
//	cookies.go     whether a browser would keep the cookies
//	discovery.go   metadata, CORS, the token endpoint, pages
//	keys.go        the published keys, signing
//	database.go    the database and its disk
//	masterkey.go   whether the master keys are those that the database needs
//	files.go       permissions of files
//	mail.go        the mail server
//	mcp.go         the discovery of an MCP server
package doctor

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/database"
	"github.com/valetkey/valetkey/internal/probe"
	"github.com/valetkey/valetkey/oauth"
)

// Options say what to check. Only Issuer is required.
type Options struct {
	// Issuer is the issuer identifier of the server.
	Issuer string
	// Configuration is that of the server; nil checks from outside only. ConfigurationFile is its file;
	// "" if there is none.
	Configuration     *configuration.Configuration
	ConfigurationFile string
	// CheckFiles reports files that would keep the server from starting; nil checks only who can read them.
	CheckFiles func() error
	// Version is the version of this program.
	Version string
	// Roots are the trusted certificate authorities; nil means the system's.
	Roots *x509.CertPool
	// ConnectTo is the host and port to connect to instead of those of the issuer, for example before
	// the DNS is changed; "" means those of the issuer.
	ConnectTo string
	// HTTPPort is the port on which the proxy redirects http to https. The default is 80 if the issuer
	// has the default port, and otherwise none.
	HTTPPort int
	// Key authenticates questions to the server; nil means that it is derived from the configuration.
	Key probe.Key
	// Now, FreeDisk and Inspect are the clock and the functions that look at disk and database; nil
	// means those of this machine.
	Now      func() time.Time
	FreeDisk func(path string) (free, total uint64, err error)
	Inspect  func(context.Context) (*Inspection, error)
	// MasterKeys reads which of the master keys are needed. A server passes those that it uses; nil
	// means those of the configuration.
	MasterKeys func(context.Context) (database.MasterKeys, error)
}

// Finding is something that is wrong.
type Finding struct {
	// Name is stable, such as "proxy.host_not_forwarded".
	Name     string   `json:"name"`
	Severity Severity `json:"severity"`
	// Title says what is wrong, Seen what was observed, and Fix what to do, with the lines for
	// configuration files. None of them contains a secret.
	Title string `json:"title"`
	Seen  string `json:"seen"`
	Fix   string `json:"fix"`
}

// Skipped is a check that was not possible.
type Skipped struct {
	Check string `json:"check"`
	Why   string `json:"why"`
}

// Report is the result of Run.
type Report struct {
	// Target is the URL that was checked.
	Target string `json:"target"`
	// Findings are sorted by severity, the worst first.
	Findings []Finding `json:"findings"`
	// Passed are the checks without an error or a warning. Skipped are those that were not possible.
	Passed  []string  `json:"passed"`
	Skipped []Skipped `json:"skipped"`
}

// Healthy reports whether there is no error and no warning.
func (r *Report) Healthy() bool {
	return !slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Severity != Info })
}

// runTime limits a run as a whole.
const runTime = time.Minute

// run is a run in progress.
type run struct {
	options Options
	issuer  *url.URL
	// replace fills the placeholders of a fix.
	replace *strings.Replacer
	report  *Report
	check   string // the current one

	client *client
	// key authenticates questions; nil if there is none. keyError is why.
	key      probe.Key
	keyError error
	// offset is the server's clock minus ours.
	offset time.Duration
	// reached says that the issuer's URL responds, and direct that the server itself does. answer is how
	// a request arrived at the server through the proxy; nil if that is not known.
	reached, direct bool
	answer          *probe.Answer
	directAnswer    *probe.Answer
	metadata        *oauth.ServerMetadata
	// prepared says that the database can be asked about the master key.
	prepared bool
}

// Run checks a server. It returns an error only if the options are wrong; what is wrong with the server
// is in the report. A run takes at most a minute.
func Run(ctx context.Context, o Options) (*Report, error) {
	ctx, cancel := context.WithTimeout(ctx, runTime)
	defer cancel()
	issuer, err := url.Parse(o.Issuer)
	if err != nil || issuer.Host == "" || issuer.Scheme != "http" && issuer.Scheme != "https" {
		return nil, fmt.Errorf("%q is not the URL of an issuer, such as https://login.example.com", o.Issuer)
	}
	o.Issuer = strings.TrimSuffix(o.Issuer, "/")
	issuer.Path = strings.TrimSuffix(issuer.Path, "/")
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.FreeDisk == nil {
		o.FreeDisk = freeDisk
	}
	if o.HTTPPort == 0 && issuer.Scheme == "https" && (issuer.Port() == "" || issuer.Port() == "443") {
		o.HTTPPort = 80
	}
	r := &run{options: o, issuer: issuer, report: newReport(o.Issuer)}
	r.replace = strings.NewReplacer("{issuer}", o.Issuer, "{host}", issuer.Host, "{name}", issuer.Hostname(),
		"{path}", issuer.Path, "{backend}", r.backend(), "{config}", cmp.Or(o.ConfigurationFile, "valetkey.yaml"))
	r.client = newClient(o, addressOf(issuer))
	defer r.client.close()
	if r.key = o.Key; r.key != nil {
		// There is nothing to derive.
	} else if o.Configuration != nil {
		var secret []byte
		if secret, r.keyError = database.MasterSecret(o.Configuration); r.keyError == nil {
			r.key, r.keyError = database.Derive(secret, probe.Purpose)
		}
	} else {
		r.keyError = errors.New("it needs the configuration of the server (--config)")
	}
	for _, check := range []struct {
		name string
		run  func(*run, context.Context) string
	}{
		{"issuer", (*run).checkIssuer},
		{"files", (*run).checkFiles},
		{"tls", (*run).checkTLS},
		{"server", (*run).checkServer},
		{"clock", (*run).checkClock},
		{"proxy", (*run).checkProxy},
		{"sizes", (*run).checkSizes},
		{"cookies", (*run).checkCookies},
		{"discovery", (*run).checkDiscovery},
		{"cors", (*run).checkCORS},
		{"token endpoint", (*run).checkTokenEndpoint},
		{"pages", (*run).checkPages},
		{"http", (*run).checkHTTP},
		{"keys", (*run).checkKeys},
		{"signing", (*run).checkSigning},
		{"process", (*run).checkProcess},
		{"database", (*run).checkDatabase},
		{"master key", (*run).checkMasterKey},
		{"disk", (*run).checkDisk},
		{"mail", (*run).checkMail},
	} {
		r.perform(ctx, check.name, check.run)
	}
	r.report.sort()
	return r.report, nil
}

func newReport(target string) *Report {
	return &Report{Target: target, Findings: []Finding{}, Passed: []string{}, Skipped: []Skipped{}}
}

// perform runs a check, which returns why it is skipped, or "".
func (r *run) perform(ctx context.Context, name string, check func(*run, context.Context) string) {
	if err := ctx.Err(); err != nil {
		r.report.Skipped = append(r.report.Skipped, Skipped{name, "the time is over"})
		return
	}
	r.check = name
	before := len(r.report.Findings)
	if why := check(r, ctx); why != "" {
		r.report.Skipped = append(r.report.Skipped, Skipped{name, why})
		return
	}
	if !slices.ContainsFunc(r.report.Findings[before:], func(f Finding) bool { return f.Severity != Info }) {
		r.report.Passed = append(r.report.Passed, name)
	}
}

// find adds a finding of the table, once.
func (r *run) find(name, seen string, args ...any) {
	r.report.add(r.replace, name, fmt.Sprintf(seen, args...))
}

func (r *Report) add(replace *strings.Replacer, name, seen string) {
	if r.has(name) {
		return
	}
	entry, ok := Table[name]
	if !ok {
		panic("doctor: " + name + " is not in the table")
	}
	r.Findings = append(r.Findings, Finding{
		Name: name, Severity: entry.Severity, Title: entry.Title,
		Seen: printable(seen), Fix: replace.Replace(strings.TrimSpace(entry.Fix)),
	})
}

// maxSeen limits what a finding quotes.
const maxSeen = 600

// printable makes text of another server safe for a terminal.
func printable(s string) string {
	s = strings.Map(func(c rune) rune {
		if unicode.IsPrint(c) {
			return c
		}
		return ' '
	}, strings.ToValidUTF8(s, "?"))
	if runes := []rune(s); len(runes) > maxSeen {
		s = string(runes[:maxSeen]) + "…"
	}
	return s
}

// found reports whether there is a finding of any of these names.
func (r *run) found(names ...string) bool { return slices.ContainsFunc(names, r.report.has) }

func (r *Report) has(name string) bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Name == name })
}

func (r *Report) sort() {
	slices.SortStableFunc(r.Findings, func(a, b Finding) int { return a.Severity.rank() - b.Severity.rank() })
}

// backend returns the address at which a proxy on this machine reaches the server.
func (r *run) backend() string {
	const usual = "127.0.0.1:8080"
	if r.options.Configuration == nil || r.options.Configuration.Listen == "" {
		return usual
	}
	host, port, err := net.SplitHostPort(r.options.Configuration.Listen)
	if err != nil {
		return usual
	}
	if host == "" || host == "0.0.0.0" || host == "::" {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

const noConfiguration = "it needs the configuration of the server (--config)"

// unanswered returns why the server was not asked.
func (r *run) unanswered() string {
	switch {
	case r.keyError != nil:
		return r.keyError.Error()
	case !r.reached:
		return "the issuer's URL does not respond"
	}
	return "the server does not answer the questions of this program through the proxy"
}
