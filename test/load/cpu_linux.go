package main

import (
	"time"

	"golang.org/x/sys/unix"
)

// cpu returns the CPU time of the process so far, user and system. /proc has it in steps of 10 ms, which is
// too coarse for short rounds.
func (p *process) cpu() (time.Duration, error) {
	const schedulerClock = 2 // CPUCLOCK_SCHED, see clock_getcpuclockid(3)
	var used unix.Timespec
	if err := unix.ClockGettime(int32(^p.command.Process.Pid<<3|schedulerClock), &used); err != nil {
		return 0, err
	}
	return time.Duration(used.Nano()), nil
}
