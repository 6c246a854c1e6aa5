package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/valetkey/valetkey"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/storage/declaration"
)

// configurationTopic is the topic of the readiness details about the configuration file.
const configurationTopic = "configuration"

// refusal is why a file is not applied. The detail is fixed text for /readyz, the error is
// for the log.
type refusal struct {
	detail string
	error
}

func (r refusal) Unwrap() error { return r.error }

// errTorn is in the error of a file whose end is probably missing.
var errTorn = errors.New("the file looks incomplete")

// errNotRegular is the error of a pipe or folder in the place of a file that was read before.
var errNotRegular = errors.New("it is not a regular file any more")

// reloader applies a configuration file to a running server when it changes.
type reloader struct {
	command *serveCommand
	server  *valetkey.Server
	log     *slog.Logger
	watch   fileWatch

	applied configuration.Declarations // those in force
	newline bool                       // the text in force ended with one
	text    []byte                     // of the last attempt
	said    string                     // the last error, which is not logged twice
}

// reload applies the configuration file again at SIGHUP and when it has changed, until ctx
// ends. before are the stamps of the watched files
// when they were read at the start.
func (c *serveCommand) reload(ctx context.Context, before []stamp, hangup <-chan os.Signal, server *valetkey.Server, log *slog.Logger) {
	if info, err := os.Stat(c.Config); err == nil && !info.Mode().IsRegular() {
		log.Info("the configuration is not a regular file: it was read once and is not watched", "file", c.Config)
		for {
			select {
			case <-ctx.Done():
				return
			case <-hangup:
				log.Error("the configuration is not a regular file and cannot be read again; the old one stays", "file", c.Config)
			}
		}
	}
	r := reloader{command: c, server: server, log: log, applied: c.running.Declarations, newline: c.endsLine}
	r.watch = fileWatch{paths: watched(c.Config, c.running), seen: before, handled: before}
	r.run(ctx, hangup)
}

func (r *reloader) run(ctx context.Context, hangup <-chan os.Signal) {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	asked := false // by SIGHUP
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangup:
			asked = true
			r.watch.handled = nil
		case <-look.C:
		}
		due, changing := r.watch.look(time.Now())
		if due {
			if r.attempt(ctx, asked) {
				asked = false
			}
		} else if changing > settlePatience {
			r.failed(ctx, refusal{"the file keeps changing; the previous configuration stays in force", errUnsettled})
		}
	}
}

// attempt reads the file and applies it, unless it must not be. It returns false if the
// files have to come to rest first.
func (r *reloader) attempt(ctx context.Context, asked bool) bool {
	text, err := readStable(r.watch.paths[0], r.watch.seen[0])
	if errors.Is(err, errUnsettled) {
		return false // look finds it changed
	}
	if !bytes.Equal(text, r.text) {
		r.text, r.said = text, "" // the same error in another text is news
	}
	if err != nil {
		// A folder that cannot be searched for a moment leaves no trace in the stamp.
		r.watch.done(r.watch.paths, time.Now().Add(lookEvery))
		r.failed(ctx, refusal{"the file cannot be read; the previous configuration stays in force", err})
		return true
	}
	config, err := r.accept(text, asked)
	// Files with secrets must have come to rest too, before what they say is applied.
	if paths := watched(r.command.Config, config); !slices.Equal(paths, r.watch.paths) && (err == nil || len(paths) > 1) {
		r.watch.done(paths, time.Time{})
		return false
	}
	if err != nil {
		r.watch.done(r.watch.paths, time.Time{})
		r.failed(ctx, err)
		return true
	}
	config.Modified = newest(r.watch.seen)
	changes, err := r.server.Apply(ctx, config.Declarations)
	// A record that conflicts with what is stored is in the log; the others were applied.
	if err != nil && !errors.As(err, new(*declaration.ConflictError)) {
		r.watch.done(r.watch.paths, time.Now().Add(retryAfter))
		r.failed(ctx, refusal{"the file could not be applied; the server tries again", err})
		return true
	}
	r.watch.done(r.watch.paths, time.Time{})
	r.applied, r.newline, r.said = config.Declarations, endsLine(text), ""
	r.server.SetReadinessDetail(configurationTopic)
	r.log.InfoContext(ctx, "configuration reloaded", "file", r.command.Config, "changes", declaration.Count(changes))
	return true
}

// watched are the files whose change is a change of the configuration.
func watched(path string, c configuration.Configuration) []string {
	paths := append([]string{path}, c.SecretFiles()...)
	slices.Sort(paths[1:])
	return slices.Compact(paths)
}

// failed says once why the previous configuration stays.
func (r *reloader) failed(ctx context.Context, err error) {
	detail := "the file has an error; the previous configuration stays in force"
	var reason refusal
	if errors.As(err, &reason) {
		detail = reason.detail
	}
	if ctx.Err() != nil || r.said == err.Error() {
		return
	}
	r.said = err.Error()
	r.server.SetReadinessDetail(configurationTopic, detail)
	r.log.ErrorContext(ctx, "the configuration file is not applied; the old one stays", "file", r.command.Config, "error", err)
}

// readStable reads a file whose stamp is known. If it is another one by now, or changes
// while it is read, the error is errUnsettled.
func readStable(path string, known stamp) ([]byte, error) {
	if known.err != nil {
		return nil, known.err
	}
	if !known.info.Mode().IsRegular() {
		return nil, errNotRegular // to open a pipe may block for ever
	}
	text, err := readFile(path)
	if err == nil && !known.equal(stampOf(path)) {
		err = errUnsettled
	}
	return text, err
}

// readFile reads a file, but no more than what ParseConfiguration takes.
func readFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, configuration.MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return text, nil
}

// accept decides whether a text may be applied. Whoever asked by SIGHUP says that a file is
// complete which does not look so.
func (r *reloader) accept(text []byte, asked bool) (configuration.Configuration, error) {
	config, err := configuration.Parse(r.command.Config, text)
	if errors.Is(err, configuration.ErrEmpty) {
		return config, refusal{"the file is empty; the previous configuration stays in force", err}
	}
	if err != nil {
		return config, err
	}
	if config, err = r.command.complete(config); err != nil {
		return config, err
	}
	if names := changedSettings(r.command.running, config); len(names) > 0 {
		return config, refusal{
			"the file changes settings that need a restart; the previous configuration stays in force until then",
			fmt.Errorf("%s: changing this needs a restart", strings.Join(names, ", ")),
		}
	}
	if err := r.complete(text, &config.Declarations); err != nil && !asked {
		return config, refusal{"the file looks incomplete; the previous configuration stays in force",
			fmt.Errorf("%w; if it is complete, send SIGHUP", err)}
	}
	return config, nil
}

// complete tells a file whose end is missing from one that names less. YAML that was cut off
// is often valid YAML. The signs: its last line does not end, where that of the file in
// force did, or a whole section is missing.
func (r *reloader) complete(text []byte, d *configuration.Declarations) error {
	if !endsLine(text) && r.newline {
		return fmt.Errorf("%w: its last line does not end with a newline", errTorn)
	}
	before := r.applied
	for _, section := range [...]struct {
		name      string
		had, here bool
	}{
		{"clients", len(before.Clients) > 0, d.Clients != nil},
		{"users", len(before.Users) > 0, d.Users != nil},
		{"scopes", len(before.Scopes) > 0, d.Scopes != nil},
		{"resources", len(before.Resources) > 0, d.Resources != nil},
	} {
		if section.had && !section.here {
			return fmt.Errorf("%w: the section %s is missing; write \"%s: []\" to say that there are none", errTorn, section.name, section.name)
		}
	}
	return nil
}

// endsLine says whether a text ends with a newline. JSON ends with its last bracket, and is
// no JSON without it.
func endsLine(text []byte) bool {
	text = bytes.TrimRight(text, " \t")
	return bytes.HasSuffix(text, []byte("\n")) || bytes.HasPrefix(bytes.TrimSpace(text), []byte("{"))
}

// changedSettings names the settings, apart from declarations, that differ.
func changedSettings(a, b configuration.Configuration) []string {
	var names []string
	before, after := reflect.ValueOf(a), reflect.ValueOf(b)
	for i := range before.NumField() {
		field := before.Type().Field(i)
		if field.Anonymous || reflect.DeepEqual(before.Field(i).Interface(), after.Field(i).Interface()) {
			continue
		}
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}

// newest is when one of several files was modified last; zero if that cannot be known, as of
// a pipe.
func newest(stamps []stamp) (last time.Time) {
	for _, s := range stamps {
		if s.info != nil && s.info.Mode().IsRegular() && s.info.ModTime().After(last) {
			last = s.info.ModTime()
		}
	}
	return last.Truncate(time.Millisecond)
}
