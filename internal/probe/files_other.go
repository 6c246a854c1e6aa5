//go:build !unix

package probe

// OpenFiles returns zero: the number is not known.
func OpenFiles() (open int, limit uint64) { return 0, 0 }
