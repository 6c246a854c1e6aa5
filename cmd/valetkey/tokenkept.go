package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
)

// keptToken is a token in a file, with what is needed to use and renew it. Its client's secrets
// and keys stay in their own files; only a generated DPoP key is in this one.
type keptToken struct {
	Client          clientFlags `json:"client"`
	Grant           string      `json:"grant"`
	IssuedTokenType string      `json:"issued_token_type,omitempty"`
	// API is where the management API of the server is; "" if it is below the issuer.
	API    string         `json:"api,omitempty"`
	Tokens *client.Tokens `json:"tokens"`
}

// usable reports whether an API accepts the token. An exchange may issue other kinds of tokens (RFC
// 8693, section 2.2.1).
func (k *keptToken) usable() bool {
	return strings.EqualFold(k.Tokens.TokenType, oauth.TokenTypeBearer) || strings.EqualFold(k.Tokens.TokenType, oauth.TokenTypeDPoP)
}

var tokenName = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$`)

func checkTokenName(name string) error {
	if !tokenName.MatchString(name) {
		return usageError{fmt.Errorf("--name %q must be 1 to 64 letters, digits, dots, underscores and hyphens, and not begin with a dot", name)}
	}
	return nil
}

func tokenFile(name string) (string, error) {
	if err := checkTokenName(name); err != nil {
		return "", err
	}
	directory, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("find the directory of kept tokens: %w", err)
	}
	return filepath.Join(directory, "valetkey", "tokens", name+".json"), nil
}

// keepToken replaces the file of a token in one step, so that others never read half of it.
func keepToken(name string, token *keptToken) error {
	file, err := tokenFile(name)
	if err != nil {
		return err
	}
	content, err := json.Marshal(token)
	if err != nil {
		return fmt.Errorf("encode the token: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return fmt.Errorf("keep the token: %w", err)
	}
	temporary, err := os.CreateTemp(filepath.Dir(file), ".new-*") // of mode 0600
	if err != nil {
		return fmt.Errorf("keep the token: %w", err)
	}
	_, err = temporary.Write(content)
	if err = errors.Join(err, temporary.Close()); err == nil {
		err = os.Rename(temporary.Name(), file)
	}
	if err != nil {
		return fmt.Errorf("keep the token: %w", errors.Join(err, os.Remove(temporary.Name())))
	}
	return nil
}

// readToken reads a kept token. It refuses a file that other users can read.
func readToken(name string) (*keptToken, error) {
	file, err := tokenFile(name)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, usageError{fmt.Errorf("no token is kept under the name %q: get one with \"valetkey token\"", name)}
	}
	if err != nil {
		return nil, fmt.Errorf("read the kept token: %w", err)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("the kept token %s is readable by other users (mode %v): get a new one, and run chmod 600 %[1]s", file, info.Mode().Perm())
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the kept token: %w", err)
	}
	var token keptToken
	if err := json.Unmarshal(content, &token); err != nil || token.Tokens == nil {
		return nil, fmt.Errorf("the kept token %s is damaged: get a new one with \"valetkey token\"", file)
	}
	return &token, nil
}
