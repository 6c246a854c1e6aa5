//go:build !linux

package sqldb

import "syscall"

// setUserTimeout does nothing: the timeouts of queries are enough.
func setUserTimeout(string, string, syscall.RawConn) error { return nil }
