package configuration

import (
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/valetkey/valetkey/oauth"
)

// Management is where and to whom the management API is served.
type Management struct {
	// Listen is the address of a listener that serves the API, as host:port. If it is not set, the API
	// is served where the issuer is.
	Listen string `json:"listen,omitempty"`
	// CommandLine is how users can sign in with "valetkey login": CommandLineLoopback, the default, or
	// one of the others.
	CommandLine string `json:"command_line,omitempty"`
	// MCPURL is the URL of "valetkey mcp --listen", if there is such a server. Access tokens for it are
	// valid at the management API, to which it passes them on.
	MCPURL string `json:"mcp_url,omitempty"`
}

// The values of Management.CommandLine.
const (
	// CommandLineLoopback: with a browser on the same machine.
	CommandLineLoopback = "loopback"
	// CommandLineDevice: also with a browser elsewhere (RFC 8628). Whoever starts such a sign-in can
	// try to talk an administrator into completing it (RFC 8628, section 5.4).
	CommandLineDevice = "device"
	CommandLineOff    = "off"
)

func (m *Management) validate(issuer string, report reporter) {
	if _, _, err := net.SplitHostPort(m.Listen); m.Listen != "" && err != nil {
		report("management.listen", "%q is not a valid address (for example, 127.0.0.1:9443)", m.Listen)
	}
	if !slices.Contains([]string{"", CommandLineLoopback, CommandLineDevice, CommandLineOff}, m.CommandLine) {
		report("management.command_line", "%q must be loopback, device or off", m.CommandLine)
	}
	u, err := url.Parse(m.MCPURL)
	if m.MCPURL != "" && (err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || strings.ContainsAny(m.MCPURL, "#?")) {
		report("management.mcp_url", "%q must be a URL without query and fragment (for example, https://mcp.example.com/mcp)", m.MCPURL)
	}
	if m.MCPURL != "" && oauth.SameResource(m.MCPURL, issuer) {
		report("management.mcp_url", "%q is the issuer, whose access tokens are for UserInfo: serve MCP at another URL", m.MCPURL)
	}
}
