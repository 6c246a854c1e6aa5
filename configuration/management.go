package configuration

import "net"

// Management is where the management API is served.
type Management struct {
	// Listen is the address of a listener that serves the API, as host:port. If it is not set, the API
	// is served where the issuer is.
	Listen string `json:"listen,omitempty"`
}

func (m *Management) validate(report reporter) {
	if _, _, err := net.SplitHostPort(m.Listen); m.Listen != "" && err != nil {
		report("management.listen", "%q is not a valid address (for example, 127.0.0.1:9443)", m.Listen)
	}
}
