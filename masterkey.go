package valetkey

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
	"strings"
)

const masterKeyBytes = 32

// masterKey finds the key from which all others are derived: the environment, the file
// that the configuration names, or, for a SQLite database, a file beside it, which is
// made at the first start.
func masterKey(c *Configuration) ([]byte, error) {
	if text := os.Getenv("VALETKEY_MASTER_KEY"); text != "" {
		return decodeMasterKey(text, "VALETKEY_MASTER_KEY")
	}
	if c.MasterKeyFile != "" {
		return readMasterKey(c.MasterKeyFile)
	}
	path, ok := strings.CutPrefix(c.Database, "sqlite:")
	if !ok {
		return nil, errors.New("PostgreSQL needs a master key, the same for all nodes: set VALETKEY_MASTER_KEY or master_key_file; `openssl rand -base64 32` makes one")
	}
	if path == ":memory:" {
		key := make([]byte, masterKeyBytes)
		rand.Read(key)
		return key, nil
	}
	path = filepath.Clean(path) + ".key"
	key, err := readMasterKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	return createMasterKey(path)
}

func readMasterKey(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read master key: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("the master key %s can be read by others (mode %v): run chmod 600 on it", path, info.Mode().Perm())
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
		return nil, fmt.Errorf("the master key in %s is not %d bytes in base64", where, masterKeyBytes)
	}
	return key, nil
}

// createMasterKey makes a key file that exists whole or not at all.
func createMasterKey(path string) ([]byte, error) {
	key := make([]byte, masterKeyBytes)
	rand.Read(key)
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return readMasterKey(path) // another process was quicker
	}
	if err != nil {
		return nil, fmt.Errorf("create master key: %w", err)
	}
	_, err = file.WriteString(base64.RawURLEncoding.EncodeToString(key) + "\n")
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return nil, errors.Join(fmt.Errorf("write master key: %w", err), os.Remove(path))
	}
	return key, nil
}

// deriveKey returns 32 bytes for one purpose (RFC 5869).
func deriveKey(master []byte, purpose string) ([]byte, error) {
	key, err := hkdf.Key(sha256.New, master, nil, purpose, 32)
	if err != nil {
		return nil, fmt.Errorf("derive key: %w", err)
	}
	return key, nil
}
