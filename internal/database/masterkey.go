package database

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/valetkey/valetkey/configuration"
)

const masterKeyBytes = 32

// The names of the systemd credentials with master keys (LoadCredential= or LoadCredentialEncrypted=).
const (
	masterKeyCredential         = "valetkey.master_key"
	previousMasterKeyCredential = "valetkey.previous_master_key"
)

// masterKey returns the key from which all others are derived. It comes from the environment, the file
// that the configuration names, the command that it names, a systemd credential, or, for a SQLite
// database, a file next to it, which is created at the first start.
func masterKey(c *configuration.Configuration) ([]byte, error) {
	key, create, err := findMasterKey(c)
	if create != "" {
		return createMasterKey(create)
	}
	return key, err
}

// findMasterKey is masterKey without side effects: it returns the path of the file to create
// instead of creating it.
func findMasterKey(c *configuration.Configuration) (key []byte, create string, err error) {
	if key, err := presentSource(c).read(); key != nil || err != nil {
		return key, "", err
	}
	path, ok := strings.CutPrefix(c.Database, "sqlite:")
	if !ok {
		return nil, "", errors.New("PostgreSQL requires a master key, the same for all nodes: set VALETKEY_MASTER_KEY, master_key_file or master_key_command; create one with `openssl rand -base64 32`")
	}
	if path == ":memory:" {
		key = make([]byte, masterKeyBytes)
		rand.Read(key)
		return key, "", nil
	}
	path = filepath.Clean(path)
	key, err = readMasterKey(path + ".key")
	if !errors.Is(err, fs.ErrNotExist) {
		return key, "", err
	}
	if info, err := os.Stat(path); err == nil && info.Size() > 0 {
		return nil, "", fmt.Errorf("the database %s exists, but its master key %s.key does not: restore it from a backup, or set VALETKEY_MASTER_KEY", path, path)
	}
	if _, err := os.Stat(filepath.Dir(path)); errors.Is(err, fs.ErrNotExist) {
		return nil, "", fmt.Errorf("the directory %s of the database does not exist: create it, or pass another path with --database", filepath.Dir(path))
	}
	return nil, path + ".key", nil
}

// keySource is where a master key may come from, the first of them first.
type keySource struct {
	variable   string
	text       string // of the variable
	file       string
	command    []string
	member     string // the name of the command
	credential string
}

func presentSource(c *configuration.Configuration) keySource {
	return keySource{configuration.MasterKeyVariable, os.Getenv(configuration.MasterKeyVariable), c.MasterKeyFile, c.MasterKeyCommand, "master_key_command", masterKeyCredential}
}

func previousSource(c *configuration.Configuration) keySource {
	return keySource{configuration.PreviousMasterKeyVariable, os.Getenv(configuration.PreviousMasterKeyVariable), c.PreviousMasterKeyFile, c.PreviousMasterKeyCommand, "previous_master_key_command", previousMasterKeyCredential}
}

// read returns the key; nil if the source has none.
func (s keySource) read() ([]byte, error) {
	if s.text != "" {
		return decodeMasterKey(s.text, s.variable)
	}
	if s.file != "" {
		return readMasterKey(s.file)
	}
	if len(s.command) > 0 {
		return runKeyCommand(s.member, s.command)
	}
	directory := os.Getenv("CREDENTIALS_DIRECTORY")
	if directory == "" {
		return nil, nil
	}
	key, err := readMasterKey(filepath.Join(directory, s.credential))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return key, err
}

// PreviousSuffix is what the name of the previous master key has after that of the master key, if that
// is next to a SQLite database.
const PreviousSuffix = ".previous"

// previousMasterKey returns the previous master key; nil if there is none.
func previousMasterKey(c *configuration.Configuration) ([]byte, error) {
	key, err := previousSource(c).read()
	path, ok := strings.CutPrefix(c.Database, "sqlite:")
	if key != nil || err != nil || !ok || path == ":memory:" || presentSource(c).names() {
		return key, err
	}
	key, err = readMasterKey(filepath.Clean(path) + ".key" + PreviousSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return key, err
}

// previousMasterKeyAt says where the previous master key is, if there is one.
func previousMasterKeyAt(c *configuration.Configuration) string {
	s := previousSource(c)
	switch path, _ := strings.CutPrefix(c.Database, "sqlite:"); {
	case s.text != "":
		return "the environment variable " + s.variable
	case s.file != "":
		return "previous_master_key_file: " + s.file
	case len(s.command) > 0:
		return s.member
	case s.names():
		return "the systemd credential " + s.credential
	default:
		return filepath.Clean(path) + ".key" + PreviousSuffix
	}
}

// names reports whether the configuration says where the key is.
func (s keySource) names() bool {
	if s.text != "" || s.file != "" || len(s.command) > 0 {
		return true
	}
	directory := os.Getenv("CREDENTIALS_DIRECTORY")
	if directory == "" {
		return false
	}
	_, err := os.Stat(filepath.Join(directory, s.credential))
	return err == nil
}

// MasterSecret returns the first of Database.MasterSecrets without opening the database. It creates no
// master key.
func MasterSecret(c *configuration.Configuration) ([]byte, error) {
	master, create, err := findMasterKey(c)
	if err != nil {
		return nil, err
	}
	if create != "" {
		return nil, fmt.Errorf("read master key: %w", &fs.PathError{Op: "open", Path: create, Err: fs.ErrNotExist})
	}
	return Derive(master, enginePurpose)
}

// systemCredentials has the directories of the credentials of systemd's units, of which only the user of
// the unit can read each.
const systemCredentials = "/run/credentials"

// MasterKeyReadable reports whether users other than its owner can use a file with a master key.
func MasterKeyReadable(path string, mode fs.FileMode) bool {
	others := fs.FileMode(0o077)
	directory := filepath.Dir(path)
	if variable := os.Getenv("CREDENTIALS_DIRECTORY"); variable != "" && directory == filepath.Clean(variable) || filepath.Dir(directory) == systemCredentials {
		// systemd gives the user of a unit access by an ACL, whose mask is shown as the mode of the
		// group: 0440. Only that user can read the directory.
		others = 0o037
	}
	// On Windows, the mode does not show who can read a file.
	return mode.Perm()&others != 0 && runtime.GOOS != "windows"
}

func readMasterKey(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read master key: %w", err)
	}
	if MasterKeyReadable(path, info.Mode()) {
		return nil, fmt.Errorf("the master key %s is readable by other users (mode %v): run chmod 600 %[1]s", path, info.Mode().Perm())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read master key: %w", err)
	}
	return decodeMasterKey(string(text), path)
}

func decodeMasterKey(text, where string) ([]byte, error) {
	text = strings.TrimRight(strings.TrimSpace(text), "=")
	text = strings.NewReplacer("+", "-", "/", "_").Replace(text)
	key, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(key) != masterKeyBytes {
		return nil, fmt.Errorf("the master key in %s must be %d bytes in base64", where, masterKeyBytes)
	}
	return key, nil
}

// createMasterKey creates a key file atomically, and syncs it to disk before anything is
// encrypted with the key.
func createMasterKey(path string) (key []byte, err error) {
	key = make([]byte, masterKeyBytes)
	rand.Read(key)
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("create master key: %w", err)
	}
	defer dir.Close()
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return nil, fmt.Errorf("create master key: %w", err)
	}
	defer func() { err = errors.Join(err, os.Remove(file.Name())) }()
	_, err = file.WriteString(base64.RawURLEncoding.EncodeToString(key) + "\n")
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return nil, fmt.Errorf("write master key: %w", err)
	}
	err = os.Link(file.Name(), path)
	if errors.Is(err, fs.ErrExist) {
		return readMasterKey(path) // another process was faster
	}
	if err != nil {
		return nil, fmt.Errorf("create master key: %w", err)
	}
	if err := dir.Sync(); err != nil {
		return nil, fmt.Errorf("write master key: %w", err)
	}
	return key, nil
}

// Derive returns a key of 32 bytes for one purpose (RFC 5869).
func Derive(master []byte, purpose string) ([]byte, error) {
	key, err := hkdf.Key(sha256.New, master, nil, purpose, 32)
	if err != nil {
		return nil, fmt.Errorf("derive key: %w", err)
	}
	return key, nil
}
