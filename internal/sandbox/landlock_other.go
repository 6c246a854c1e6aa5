//go:build !linux

package sandbox

// Restrict does nothing: only Linux has Landlock.
func Restrict(Policy) (Level, error) { return 0, nil }
