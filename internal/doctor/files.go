package doctor

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/database"
)

// secretFile is a file that others must not read.
type secretFile struct {
	path    string
	finding string
}

// secretFilesOf lists the files with secrets that a configuration names.
func secretFilesOf(c *configuration.Configuration, file string) []secretFile {
	var files []secretFile
	add := func(finding string, paths ...string) {
		for _, path := range paths {
			if path != "" {
				files = append(files, secretFile{path, finding})
			}
		}
	}
	add("files.master_key_readable", c.MasterKeyFile, c.PreviousMasterKeyFile)
	if path, ok := strings.CutPrefix(databaseOf(c), "sqlite:"); ok && path != ":memory:" {
		if c.MasterKeyFile == "" && len(c.MasterKeyCommand) == 0 && os.Getenv(configuration.MasterKeyVariable) == "" {
			add("files.master_key_readable", path+".key", path+".key"+database.PreviousSuffix)
		}
		add("files.database_readable", path, path+"-wal")
	}
	if c.TLS != nil {
		add("files.private_key_readable", c.TLS.Key)
	}
	if m := c.MutualTLS.Certificate(c.TLS); m != nil {
		add("files.private_key_readable", m.Key)
	}
	add("files.secret_readable", c.DatabaseFile)
	add("files.secret_readable", c.SecretFiles()...)
	for _, hook := range c.Hooks {
		add("files.secret_readable", hook.SecretFile)
	}
	for _, provider := range c.IdentityProviders {
		add("files.secret_readable", provider.ClientSecretFile, provider.PrivateKeyFile)
	}
	if c.Mail != nil && c.Mail.SMTP != nil {
		add("files.secret_readable", c.Mail.SMTP.PasswordFile)
	}
	if hasSecrets(c) {
		add("files.configuration_readable", file)
	}
	return files
}

// hasSecrets reports whether the file of a configuration itself contains secrets. Passwords of users
// and secrets of clients that files contain are in the configuration too once it has been read.
func hasSecrets(c *configuration.Configuration) bool {
	for _, client := range c.Clients {
		if client.Secret != "" && client.SecretFile == "" {
			return true
		}
	}
	for _, user := range c.Users {
		if user.Password != "" && user.PasswordFile == "" {
			return true
		}
	}
	return false
}

// checkFiles looks at who can read the files with secrets.
func (r *run) checkFiles(context.Context) string {
	c := r.options.Configuration
	if c == nil {
		return noConfiguration
	}
	if runtime.GOOS == "windows" {
		return "file modes do not show who can read a file on Windows"
	}
	for _, file := range secretFilesOf(c, r.options.ConfigurationFile) {
		info, err := os.Stat(file.path)
		switch {
		case errors.Is(err, fs.ErrNotExist) && (file.finding == "files.database_readable" || strings.HasSuffix(file.path, ".key") && !exists(strings.TrimSuffix(file.path, ".key")) || strings.HasSuffix(file.path, ".key"+database.PreviousSuffix)):
			// The server creates them; a previous master key is there during a rotation only.
		case err != nil:
			r.find("files.unusable", "%v", err)
		case info.Mode().Perm()&0o004 != 0 || file.finding == "files.master_key_readable" && database.MasterKeyReadable(file.path, info.Mode()):
			r.find(file.finding, "%s has the mode %v", file.path, info.Mode().Perm())
		}
	}
	if r.options.CheckFiles != nil && !slices.ContainsFunc(r.report.Findings, func(f Finding) bool { return strings.HasPrefix(f.Name, "files.") }) {
		if err := r.options.CheckFiles(); err != nil {
			r.find("files.unusable", "%s", strings.ReplaceAll(err.Error(), "\n", "; "))
		}
	}
	return ""
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
