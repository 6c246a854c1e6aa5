//go:build !linux

package sqldb

import "syscall"

// setUserTimeout does nothing: the deadlines of queries do the work.
func setUserTimeout(string, string, syscall.RawConn) error { return nil }
