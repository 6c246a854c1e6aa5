package sqldb

import (
	"syscall"
)

// tcpUserTimeout is TCP_USER_TIMEOUT, which package syscall does not define on every
// architecture.
const tcpUserTimeout = 18

// setUserTimeout makes the kernel give up a connection whose peer does not acknowledge what was
// sent.
func setUserTimeout(network, _ string, c syscall.RawConn) (err error) {
	if network == "unix" {
		return nil
	}
	control := c.Control(func(fd uintptr) {
		err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(userTimeout.Milliseconds()))
	})
	if control != nil {
		return control
	}
	return err
}
