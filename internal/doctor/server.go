package doctor

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/valetkey/valetkey/internal/probe"
	"github.com/valetkey/valetkey/oauth"
)

// The limits of what is normal.
const (
	// maxSkew is less than the tolerance of clients for the times in tokens.
	maxSkew = 10 * time.Second
	// minOpenFiles leaves room for some thousand connections.
	minOpenFiles = 4096
)

// checkIssuer checks the issuer identifier itself.
func (r *run) checkIssuer(context.Context) string {
	if r.issuer.Scheme == "http" && !oauth.IsLoopbackHost(r.issuer.Hostname()) {
		r.find("issuer.not_https", "%s", r.options.Issuer)
	}
	if c := r.options.Configuration; c != nil && c.Issuer != "" && strings.TrimSuffix(c.Issuer, "/") != r.options.Issuer {
		r.find("issuer.mismatch", "the URL is %s, and the configuration has issuer: %s", r.options.Issuer, c.Issuer)
	}
	return ""
}

// checkServer finds out whether the server and the proxy respond.
func (r *run) checkServer(ctx context.Context) string {
	health := r.options.Issuer + "/.well-known/openid-configuration"
	received, err := r.get(ctx, health)
	if err != nil {
		r.find("issuer.unreachable", "%s: %v", r.options.Issuer, err)
	} else {
		r.reached = true
		r.readClock(received)
	}
	directErr := r.askDirectly(ctx)
	badGateway := r.reached && (received.status == http.StatusBadGateway || received.status == http.StatusServiceUnavailable || received.status == http.StatusGatewayTimeout)
	switch {
	case badGateway && r.direct:
		r.find("proxy.bad_gateway", "%d from %s, but the server responds at %s", received.status, health, r.backend())
	case badGateway || !r.reached && r.options.Configuration != nil && !r.direct:
		seen := "the issuer's URL does not respond"
		if badGateway {
			seen = http.StatusText(received.status) + " from the proxy"
		}
		if directErr != nil {
			seen += "; " + r.backend() + ": " + directErr.Error()
		}
		r.find("server.unreachable", "%s", seen)
	}
	if badGateway {
		r.reached = false
	}
	r.judgeReadiness(ctx)
	return ""
}

// askDirectly asks the server without the proxy, if it is on this machine.
func (r *run) askDirectly(ctx context.Context) error {
	if r.options.Configuration == nil {
		return nil
	}
	base := r.backendURL()
	received, err := do(ctx, r.client.direct, http.MethodGet, base+"/healthz", nil, "Host", r.issuer.Host)
	if err != nil {
		return err
	}
	if !r.reached {
		r.readClock(received)
	}
	r.direct = true
	if r.keyError != nil {
		return nil
	}
	r.directAnswer, _, err = r.askAt(ctx, r.client.direct, base, probe.Question{Token: true}, http.MethodGet, r.issuer.Path+"/", nil, "Host", r.issuer.Host)
	if err != nil {
		r.find("server.no_answer", "%s: %v", r.backend(), err)
	}
	return nil
}

// backendURL returns the URL of the server without the proxy.
func (r *run) backendURL() string {
	if r.options.Configuration.TLS != nil {
		return "https://" + r.backend()
	}
	return "http://" + r.backend()
}

func (r *run) judgeReadiness(ctx context.Context) {
	var lines []string
	switch a := r.directAnswer; {
	case a != nil:
		if a.NotReady != "" {
			r.find("server.not_ready", "%s", a.NotReady)
		}
		lines = a.Ready
		if len(a.FailingKeys) > 0 { // checkSigning reports them
			lines = slices.DeleteFunc(slices.Clone(lines), func(line string) bool { return strings.HasPrefix(line, "signing: ") })
		}
		if r.options.Version != "" && a.Version != r.options.Version {
			r.find("server.other_version", "the server is %s, and this program is %s", a.Version, r.options.Version)
		}
	case r.reached && r.issuer.Path == "":
		// A proxy may not pass on /readyz, which is not an endpoint for clients.
		received, err := r.get(ctx, r.options.Issuer+"/readyz")
		if err != nil {
			return
		}
		text := strings.TrimSpace(string(received.body))
		all := strings.Split(text, "\n")
		switch {
		case received.status == http.StatusServiceUnavailable:
			r.find("server.not_ready", "%.200s", text)
		case received.status == http.StatusOK && all[0] == "ready":
			lines = all[1:]
		}
	}
	if len(lines) > 0 {
		r.find("server.detail", "%s", strings.Join(lines, "; "))
	}
}

// readClock compares the Date of a response with our clock. Date has whole seconds.
func (r *run) readClock(received *response) {
	date, err := http.ParseTime(received.header.Get("Date"))
	if err != nil {
		return
	}
	r.offset = date.Add(500 * time.Millisecond).Sub(time.Now().Add(-received.took / 2))
}

func (r *run) checkClock(context.Context) string {
	if !r.reached && !r.direct {
		return "the server does not respond"
	}
	skew := r.offset - time.Until(r.options.Now())
	if skew.Abs() > maxSkew {
		relation := "ahead of"
		if skew < 0 {
			relation = "behind"
		}
		r.find("clock.skew", "the server is %v %s this machine", skew.Abs().Round(time.Second), relation)
	}
	return ""
}

// checkProcess looks at the limits of the server's process.
func (r *run) checkProcess(context.Context) string {
	a := r.directAnswer
	if a == nil {
		a = r.answer
	}
	if a == nil {
		return r.unanswered()
	}
	if a.OpenFilesLimit == 0 {
		return "the limits of the process are not known on this system"
	}
	if a.OpenFilesLimit < minOpenFiles {
		r.find("process.few_open_files", "the process may have %d open files, and has %d", a.OpenFilesLimit, a.OpenFiles)
	} else if uint64(a.OpenFiles) > a.OpenFilesLimit/10*8 {
		r.find("process.open_files_used", "the process has %d of %d open files", a.OpenFiles, a.OpenFilesLimit)
	}
	return ""
}
