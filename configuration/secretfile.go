package configuration

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

const maxSecretFileBytes = 64 << 10

// readSecretFile returns the content of a file without trailing newlines.
func readSecretFile(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err // names the path and the reason
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxSecretFileBytes+1))
	if err != nil {
		return "", err
	}
	if len(text) > maxSecretFileBytes {
		return "", fmt.Errorf("%s is larger than 64 KiB", path)
	}
	secret := strings.TrimRight(string(text), "\r\n")
	if secret == "" {
		return "", fmt.Errorf("%s is empty", path)
	}
	if strings.ContainsAny(secret, "\r\n") {
		return "", fmt.Errorf("%s has more than one line: it must contain the secret only", path)
	}
	return secret, nil
}

// secretFile is a member that can be in a file of its own.
type secretFile struct {
	path   string // of the member, such as users[0].password
	file   string
	secret *string
}

// secretFiles lists the declared secrets that are in files.
func (d *Declarations) secretFiles() []secretFile {
	var files []secretFile
	add := func(path, file string, secret *string) {
		if file != "" {
			files = append(files, secretFile{path, file, secret})
		}
	}
	for i := range d.Clients {
		c, path := &d.Clients[i], fmt.Sprintf("clients[%d]", i)
		add(path+".client_secret", c.SecretFile, &c.Secret)
		add(path+".client_secret_next", c.SecretNextFile, &c.SecretNext)
	}
	for i := range d.Users {
		add(fmt.Sprintf("users[%d].password", i), d.Users[i].PasswordFile, &d.Users[i].Password)
	}
	return files
}

// SecretFiles returns the paths of the files that contain secrets of clients and users.
func (d *Declarations) SecretFiles() []string {
	var paths []string
	for _, f := range d.secretFiles() {
		paths = append(paths, f.file)
	}
	return paths
}

// readSecretFiles sets the secrets that are in files or in environment variables.
func (d *Declarations) readSecretFiles(report reporter) {
	for _, f := range d.secretFiles() {
		f.read(report)
	}
	for i := range d.Clients {
		c, path := &d.Clients[i], fmt.Sprintf("clients[%d]", i)
		readSecretVariable(report, path+".client_secret", &c.Secret)
		readSecretVariable(report, path+".client_secret_next", &c.SecretNext)
	}
	for i := range d.Users {
		readSecretVariable(report, fmt.Sprintf("users[%d].password", i), &d.Users[i].Password)
	}
}

// readSecretVariable replaces ${NAME} with the value of the environment variable. No other text is
// expanded: a secret may contain any characters.
func readSecretVariable(report reporter, path string, secret *string) {
	name, ok := strings.CutPrefix(*secret, "${")
	if !ok || !strings.HasSuffix(name, "}") {
		return
	}
	name = strings.TrimSuffix(name, "}")
	if name == "" || strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "" {
		return
	}
	value, ok := os.LookupEnv(name)
	if !ok || value == "" {
		report(path, "the environment variable %s is not set", name)
		return
	}
	*secret = value
}

func (f secretFile) read(report reporter) {
	secret, err := readSecretFile(f.file)
	if err == nil && *f.secret != "" && *f.secret != secret {
		err = errors.New("set either this or the member without _file, not both")
	}
	if err != nil {
		report(f.path+"_file", "%v", err)
		return
	}
	*f.secret = secret
}

// readSecretFiles sets all secrets that are in files, except those of hooks.
func (c *Configuration) readSecretFiles(report reporter) {
	if c.DatabaseFile != "" {
		secretFile{"database", c.DatabaseFile, &c.Database}.read(report)
	}
	c.Declarations.readSecretFiles(report)
}

// ReadSecretFiles sets the secrets that files contain. It may be called again.
func (c *Configuration) ReadSecretFiles() error { return collectProblems(c.readSecretFiles) }

// ReadSecretFiles sets the secrets that files contain. It may be called again.
func (d *Declarations) ReadSecretFiles() error { return collectProblems(d.readSecretFiles) }
