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

// masterKeyCredential is the name of the systemd credential with the master key (LoadCredential= or
// LoadCredentialEncrypted=).
const masterKeyCredential = "valetkey.master_key"

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
	if text := os.Getenv(configuration.MasterKeyVariable); text != "" {
		key, err = decodeMasterKey(text, configuration.MasterKeyVariable)
		return key, "", err
	}
	if c.MasterKeyFile != "" {
		key, err = readMasterKey(c.MasterKeyFile)
		return key, "", err
	}
	if len(c.MasterKeyCommand) > 0 {
		key, err = runKeyCommand(c.MasterKeyCommand)
		return key, "", err
	}
	if directory := os.Getenv("CREDENTIALS_DIRECTORY"); directory != "" {
		key, err = readMasterKey(filepath.Join(directory, masterKeyCredential))
		if !errors.Is(err, fs.ErrNotExist) {
			return key, "", err
		}
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

// EngineSecret returns Database.Secret without opening the database. It creates no master key.
func EngineSecret(c *configuration.Configuration) ([]byte, error) {
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
