package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/valetkey/valetkey"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/systemd"
	"github.com/valetkey/valetkey/storage/declaration"
)

// configurationTopic is the topic of readiness details about the configuration file.
const configurationTopic = "configuration"

// refusal is why a file is not applied. The detail is fixed text for /readyz; the error is for
// the log.
type refusal struct {
	detail string
	error
}

func (r refusal) Unwrap() error { return r.error }

// errTorn is the error for a file whose end is probably missing.
var errTorn = errors.New("the file looks incomplete")

// errNotRegular is the error for a pipe or directory that replaced a file.
var errNotRegular = errors.New("the file is no longer a regular file")

// reloader applies a configuration file to a running server when it changes.
type reloader struct {
	command  *serveCommand
	notifier *systemd.Notifier
	server   *valetkey.Server
	log      *slog.Logger
	level    *slog.LevelVar // of log
	watch    fileWatch

	applied    configuration.Declarations // those in force
	masterKeys masterKeySource            // of the keys in use
	newline    bool                       // the text in force ended with a newline
	text       []byte                     // of the last attempt
	lastError  string                     // not logged twice
}

// reload applies the configuration file again at SIGHUP and when it has changed, until ctx is
// done. before are the stamps of the watched files when they were read at the start.
func (c *serveCommand) reload(ctx context.Context, before []stamp, hangup <-chan os.Signal, notifier *systemd.Notifier, server *valetkey.Server, log *slog.Logger, level *slog.LevelVar) {
	if info, err := os.Stat(c.Config); err == nil && !info.Mode().IsRegular() {
		log.Info("the configuration is not a regular file: changes are not detected", "file", c.Config)
		for {
			select {
			case <-ctx.Done():
				return
			case <-hangup:
				log.Error("the configuration is not a regular file and cannot be read again; the previous configuration stays in force", "file", c.Config)
			}
		}
	}
	r := reloader{command: c, notifier: notifier, server: server, log: log, level: level, applied: c.running.Declarations, newline: c.endsLine, masterKeys: masterKeySourceOf(c.running)}
	r.watch = fileWatch{paths: watched(c.Config, c.running), seen: before, handled: before}
	r.run(ctx, hangup)
}

func (r *reloader) run(ctx context.Context, hangup <-chan os.Signal) {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	forced := false // by SIGHUP
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangup:
			forced = true
			r.watch.handled = nil
			r.notify(ctx, r.notifier.Reloading)
		case <-look.C:
		}
		due, changing := r.watch.look(time.Now())
		if due {
			if r.attempt(ctx, forced) {
				if forced {
					r.notify(ctx, r.notifier.Ready)
				}
				forced = false
			}
		} else if changing > settlePatience {
			r.failed(ctx, refusal{"the file keeps changing; the previous configuration stays in force", errUnsettled})
		}
	}
}

// notify tells systemd about a reload.
func (r *reloader) notify(ctx context.Context, send func() error) {
	if err := send(); err != nil {
		r.log.WarnContext(ctx, "systemd does not know the state of the server", "error", err)
	}
}

// attempt reads the file and applies it, unless it is refused. It returns false if the files
// must settle first.
func (r *reloader) attempt(ctx context.Context, forced bool) bool {
	text, err := readStable(r.watch.paths[0], r.watch.seen[0])
	if errors.Is(err, errUnsettled) {
		return false // look finds it changed
	}
	if !bytes.Equal(text, r.text) {
		r.text, r.lastError = text, "" // log the same error again for another text
	}
	if err != nil {
		// A directory that is inaccessible for a moment does not change the stamp.
		r.watch.done(r.watch.paths, time.Now().Add(lookEvery))
		r.failed(ctx, refusal{"the file cannot be read; the previous configuration stays in force", err})
		return true
	}
	config, err := r.accept(text, forced)
	// Files with secrets must settle too, before their content is applied.
	if paths := watched(r.command.Config, config); !slices.Equal(paths, r.watch.paths) && (err == nil || len(paths) > 1) {
		r.watch.done(paths, time.Time{})
		return false
	}
	if err != nil {
		r.watch.done(r.watch.paths, time.Time{})
		r.failed(ctx, err)
		return true
	}
	if err := r.reloadMasterKeys(ctx, config, forced); err != nil {
		r.watch.done(r.watch.paths, time.Now().Add(retryAfter))
		r.failed(ctx, refusal{"the master keys cannot be read or do not open the database; the previous configuration stays in force", err})
		return true
	}
	config.Modified = newest(r.watch.seen)
	changes, err := r.server.Apply(ctx, config.Declarations)
	// Conflicts of single records are in the log; the other records were applied.
	if err != nil && !errors.As(err, new(*declaration.ConflictError)) {
		r.watch.done(r.watch.paths, time.Now().Add(retryAfter))
		r.failed(ctx, refusal{"the file could not be applied; the server tries again", err})
		return true
	}
	r.watch.done(r.watch.paths, time.Time{})
	r.applied, r.newline, r.lastError = config.Declarations, endsLine(text), ""
	r.server.SetReadinessDetail(configurationTopic)
	r.level.Set(logLevel(config.Log))
	r.log.InfoContext(ctx, "configuration reloaded", "file", r.command.Config, "changes", declaration.Count(changes))
	return true
}

// reloadMasterKeys reads the master keys again if the configuration has them from elsewhere, or at SIGHUP
// unless they come from a program, which the sandbox may not let run.
func (r *reloader) reloadMasterKeys(ctx context.Context, config configuration.Configuration, forced bool) error {
	source := masterKeySourceOf(config)
	changed := !reflect.DeepEqual(source, r.masterKeys)
	switch {
	case changed:
	case !forced:
		return nil
	case len(source.command) > 0 || len(source.previousCommand) > 0:
		r.log.InfoContext(ctx, "a command prints a master key: the master keys are read again when the server starts, not now")
		return nil
	}
	err := r.server.ReloadMasterKeys(ctx, config)
	if err != nil && !changed {
		r.log.WarnContext(ctx, "the server keeps its master keys", "error", err)
		return nil
	}
	if err == nil {
		r.masterKeys = source
	}
	return err
}

// masterKeySource is where a configuration has the master keys.
type masterKeySource struct {
	file, previousFile       string
	command, previousCommand []string
}

func masterKeySourceOf(c configuration.Configuration) masterKeySource {
	return masterKeySource{c.MasterKeyFile, c.PreviousMasterKeyFile, c.MasterKeyCommand, c.PreviousMasterKeyCommand}
}

// watched returns the files whose changes are changes of the configuration.
func watched(path string, c configuration.Configuration) []string {
	paths := append([]string{path}, c.SecretFiles()...)
	slices.Sort(paths[1:])
	return slices.Compact(paths)
}

// failed reports once why the previous configuration stays in force.
func (r *reloader) failed(ctx context.Context, err error) {
	detail := "the file has an error; the previous configuration stays in force"
	var reason refusal
	if errors.As(err, &reason) {
		detail = reason.detail
	}
	if ctx.Err() != nil || r.lastError == err.Error() {
		return
	}
	r.lastError = err.Error()
	r.server.SetReadinessDetail(configurationTopic, detail)
	if !r.command.running.Sandbox.Off && strings.Contains(err.Error(), fs.ErrPermission.Error()) {
		err = fmt.Errorf("%w (files in directories that the configuration did not name before can be read after a restart: docs/guides/deploy.md)", err)
	}
	r.log.ErrorContext(ctx, "configuration file not applied; the previous configuration stays in force", "file", r.command.Config, "error", err)
}

// readStable reads a file whose stamp is known. If the file was replaced, or changes while it is
// read, the error is errUnsettled.
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

// readFile reads a file, up to the limit of configuration.Parse.
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

// accept reports whether a text may be applied. forced means that the operator sent SIGHUP, which
// confirms a file that looks incomplete.
func (r *reloader) accept(text []byte, forced bool) (configuration.Configuration, error) {
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
	comparable := config
	// These do not need a restart.
	comparable.Log.Level = r.command.running.Log.Level
	comparable.MasterKeyFile, comparable.MasterKeyCommand = r.command.running.MasterKeyFile, r.command.running.MasterKeyCommand
	comparable.PreviousMasterKeyFile, comparable.PreviousMasterKeyCommand = r.command.running.PreviousMasterKeyFile, r.command.running.PreviousMasterKeyCommand
	if names := changedSettings(r.command.running, comparable); len(names) > 0 {
		return config, refusal{
			"the file changes settings that need a restart; the previous configuration stays in force until then",
			fmt.Errorf("%s: changing this needs a restart", strings.Join(names, ", ")),
		}
	}
	if err := r.complete(text, &config.Declarations); err != nil && !forced {
		return config, refusal{"the file looks incomplete; the previous configuration stays in force",
			fmt.Errorf("%w; if it is complete, send SIGHUP", err)}
	}
	return config, nil
}

// complete distinguishes a truncated file from one that declares less. Truncated YAML is often
// valid YAML. A file looks truncated if its last line has no newline, and that of the file in
// force had one, or if a whole section is missing.
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
			return fmt.Errorf("%w: the section %s is missing; write \"%s: []\" if it is empty on purpose", errTorn, section.name, section.name)
		}
	}
	return nil
}

// endsLine reports whether a text ends with a newline, or is JSON, which is invalid if truncated.
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

// newest returns the latest modification time of several files; zero if unknown, as for a pipe.
func newest(stamps []stamp) (last time.Time) {
	for _, s := range stamps {
		if s.info != nil && s.info.Mode().IsRegular() && s.info.ModTime().After(last) {
			last = s.info.ModTime()
		}
	}
	return last.Truncate(time.Millisecond)
}
