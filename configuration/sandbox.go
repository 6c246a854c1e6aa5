package configuration

import (
	"fmt"
	"path/filepath"
)

// Sandbox restricts the process with the Landlock of Linux (package internal/sandbox), to what the
// configuration needs.
type Sandbox struct {
	// Off restricts nothing.
	Off bool `json:"off,omitempty"`
	// Read and Write are further directories that the server reads, or also writes to.
	Read  []string `json:"read,omitempty"`
	Write []string `json:"write,omitempty"`
}

func (s Sandbox) validate(report reporter) {
	for name, paths := range map[string][]string{"sandbox.read": s.Read, "sandbox.write": s.Write} {
		for i, path := range paths {
			if !filepath.IsAbs(path) || filepath.Clean(path) == "/" {
				report(fmt.Sprintf("%s[%d]", name, i), "%q is not an absolute path of a directory other than /; to restrict nothing, set sandbox.off", path)
			}
		}
	}
}
