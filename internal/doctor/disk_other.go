//go:build !linux && !darwin

package doctor

import "errors"

func freeDisk(string) (free, total uint64, err error) {
	return 0, 0, errors.New("the free space of a disk is not known on this system")
}
