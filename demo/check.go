package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/valetkey/valetkey/internal/person"
	"github.com/valetkey/valetkey/oauth"
)

// ErrCheck means that a scene did not end as expected. The details have been printed.
var ErrCheck = errors.New("a scene did not end as expected")

// Check starts a demo, runs every scene and every way to break it without a browser, and prints
// the messages and refusals.
func Check(ctx context.Context, out, log io.Writer) error {
	d, err := Start(ctx, log, checkTokenLifetime)
	if err != nil {
		return err
	}
	return errors.Join(d.check(ctx, out), d.Close())
}

func (d *Demo) check(ctx context.Context, out io.Writer) error {
	failed := 0
	for _, s := range scenes() {
		fmt.Fprintf(out, "%s\n%s\n\n", s.title, strings.Repeat("=", len(s.title)))
		w := &walk{scene: s}
		if err := d.walkThrough(ctx, w); err != nil {
			return err
		}
		printMessages(out, w)
		if w.failed {
			failed++
			fmt.Fprintf(out, "  FAILED: refused: %s\n", w.result)
		} else {
			fmt.Fprintf(out, "  Result: %s\n\n", w.result)
		}
		for _, b := range s.breaks {
			broken := &walk{scene: s, breakage: &b}
			if err := d.walkThrough(ctx, broken); err != nil {
				return err
			}
			failed += printRefusal(out, broken)
		}
		fmt.Fprintln(out)
	}
	if failed > 0 {
		fmt.Fprintf(out, "%d failed\n", failed)
		return ErrCheck
	}
	fmt.Fprintln(out, "Every scene ended as expected, and every attempt to break one was refused.")
	return nil
}

// walkThrough does what the browser and the page's buttons do.
func (d *Demo) walkThrough(ctx context.Context, w *walk) error {
	b := w.breakage
	if w.scene.callback != "" && (b == nil || !b.only) {
		address, err := d.begin(ctx, w)
		if err != nil {
			return err
		}
		user := person.New(Username, Password)
		if w.scene.user != nil {
			user = w.scene.user(d)
		}
		callback, err := user.Visit(address, d.app+w.scene.callback)
		if err != nil {
			return fmt.Errorf("sign in to the demo: %w", err)
		}
		if err := d.redeem(ctx, w, callback); err != nil || b == nil || b.fresh || w.scene.run != nil {
			return err
		}
	} else if w.scene.run != nil {
		if err := w.scene.run(ctx, d, w); err != nil || w.waits == "" {
			return err
		}
		user := person.New(Username, Password)
		var err error
		if w.waits == d.issuer+accountPath {
			err = user.Approve(d.issuer)
		} else {
			err = user.Allow(w.waits)
		}
		if err != nil {
			return fmt.Errorf("act on the page that the scene waits for: %w", err)
		}
		w.waits = ""
		return w.scene.resume(ctx, d, w)
	} else if b == nil {
		if err := d.getTokens(ctx, w); err != nil {
			return err
		}
		return d.request(ctx, w, http.MethodGet, "/photos", callPurpose)
	}
	return d.misbehave(ctx, w)
}

// mostLines is the maximum number of printed lines of a message.
const mostLines = 30

func printMessages(out io.Writer, w *walk) {
	for _, m := range w.recording.all() {
		fmt.Fprintf(out, "  %d. %s → %s: %s\n", m.Number, m.From, m.To, m.Purpose)
		for _, text := range []string{m.Request, m.Response} {
			if text == "" {
				continue
			}
			lines := strings.Split(strings.TrimSpace(text), "\n")
			for i, line := range lines {
				if i == mostLines {
					fmt.Fprintf(out, "       … and %d more lines\n", len(lines)-i)
					break
				}
				fmt.Fprintf(out, "       %s\n", shorten(line))
			}
			fmt.Fprintln(out)
		}
	}
}

// shorten truncates a line to the width of a terminal.
func shorten(line string) string {
	const width = 100
	if len(line) > width {
		return line[:width-1] + "…"
	}
	return line
}

// printRefusal prints how an attempt to break a scene ended and returns the number of failures.
func printRefusal(out io.Writer, w *walk) int {
	m := w.recording.last()
	if !w.failed || m.Refusal == nil || !refusedWith(m, w.breakage.code) {
		fmt.Fprintf(out, "  FAILED: %s was not refused with %s: %s\n%s\n", w.breakage.title, w.breakage.code, w.result, m.Response)
		return 1
	}
	with := string(w.breakage.code)
	if w.breakage.code == pageError {
		with = "an error page"
	}
	fmt.Fprintf(out, "  ✗ %s: refused with %s\n      rule: %s (%s)\n", w.breakage.title, with, m.Refusal.Rule, m.Refusal.Section)
	if m.Refusal.Detail != "" {
		fmt.Fprintf(out, "      detail: %s\n", shorten(m.Refusal.Detail))
	}
	return 0
}

func refusedWith(m Message, code oauth.ErrorCode) bool {
	if code == pageError {
		return strings.Contains(m.Response, "400 Bad Request") || strings.Contains(m.Response, "403 Forbidden")
	}
	return strings.Contains(m.Response, `"`+string(code)+`"`) || strings.Contains(m.Response, "error="+string(code)+"&") || strings.Contains(m.Response, "error="+string(code)+"\n")
}
