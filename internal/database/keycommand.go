package database

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// How long the command that prints the master key may take, and how much it may print.
const (
	keyCommandTimeout = 30 * time.Second
	maxKeyOutput      = 1 << 10
	maxKeyErrors      = 4 << 10
)

// runKeyCommand returns the key that the command of a member prints. No shell is involved. What the command
// prints to its standard output is in no error.
func runKeyCommand(member string, command []string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), keyCommandTimeout)
	defer cancel()
	run := exec.CommandContext(ctx, command[0], command[1:]...)
	// A process that the command started may keep its output open.
	run.WaitDelay = time.Second
	output, problems := limitedBuffer{limit: maxKeyOutput}, limitedBuffer{limit: maxKeyErrors}
	run.Stdout, run.Stderr = &output, &problems
	if err := run.Run(); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("it took longer than %v", keyCommandTimeout)
		}
		if text := strings.TrimSpace(problems.String()); text != "" {
			err = fmt.Errorf("%w: %s", err, text)
		}
		return nil, fmt.Errorf("%s: %s: %w", member, command[0], err)
	}
	if output.more {
		return nil, errors.New(member + ": " + command[0] + " printed more than a key")
	}
	return decodeMasterKey(output.String(), "the output of "+member)
}

// limitedBuffer keeps the beginning of what is written to it.
type limitedBuffer struct {
	kept  bytes.Buffer // not embedded: its ReadFrom would go around the limit
	limit int
	more  bool
}

func (b *limitedBuffer) String() string { return b.kept.String() }

func (b *limitedBuffer) Write(p []byte) (int, error) {
	keep := p[:min(len(p), b.limit-b.kept.Len())]
	b.more = b.more || len(keep) < len(p)
	b.kept.Write(keep)
	return len(p), nil
}
