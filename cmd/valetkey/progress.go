package main

import (
	"fmt"
	"io"
	"os"
	"time"
)

// progress shows on a terminal how far a command is. Elsewhere it shows nothing.
type progress struct {
	out   io.Writer // nil if there is no terminal
	shown time.Time
}

// progressEvery is how often the line changes at most.
const progressEvery = 200 * time.Millisecond

// progress returns a progress on the log of a command.
func (o *output) progress() *progress {
	if isTerminal(o.log) {
		return &progress{out: o.log}
	}
	return &progress{}
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// show replaces the line.
func (p *progress) show(now time.Time, text string) {
	if p.out == nil || now.Sub(p.shown) < progressEvery {
		return
	}
	p.shown = now
	fmt.Fprintf(p.out, "\r\x1b[K%s", text)
}

// end removes the line.
func (p *progress) end() {
	if !p.shown.IsZero() {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}
