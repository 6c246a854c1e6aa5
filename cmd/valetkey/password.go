package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/internal/useradmin"
)

// maxPasswordInput is longer than any accepted password.
const maxPasswordInput = 16 << 10

// readPassword prompts for a password twice, without echo. If standard input is not a terminal,
// its first line is the password.
func readPassword(o *output) (string, error) {
	if fd := int(os.Stdin.Fd()); term.IsTerminal(fd) {
		password, err := prompt(o, fd, "Password: ")
		if err != nil {
			return "", err
		}
		again, err := prompt(o, fd, "Repeat the password: ")
		if err != nil {
			return "", err
		}
		if password != again {
			return "", usageError{errors.New("the passwords do not match: try again")}
		}
		return notEmpty(password)
	}
	line, err := bufio.NewReader(io.LimitReader(os.Stdin, maxPasswordInput)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read the password: %w", err)
	}
	return notEmpty(strings.TrimRight(line, "\r\n"))
}

func prompt(o *output, fd int, text string) (string, error) {
	fmt.Fprint(o.log, text)
	password, err := term.ReadPassword(fd)
	fmt.Fprintln(o.log)
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	return string(password), nil
}

func notEmpty(password string) (string, error) {
	if password == "" {
		return "", usageError{errors.New("the password is empty: type one, or pass it on standard input")}
	}
	return password, nil
}

type hashPasswordCommand struct{}

// Help is shown by "valetkey hash-password --help".
func (hashPasswordCommand) Help() string {
	return "Prompts for a password and prints its hash (argon2id, PHC string format) for password_hash in a configuration file. " +
		"If standard input is not a terminal, its first line is the password.\n\n" +
		"Examples:\n  valetkey hash-password\n  valetkey hash-password < password.txt"
}

// Run prints the hash of a password.
func (c *hashPasswordCommand) Run(o *output) error {
	password, err := readPassword(o)
	if err != nil {
		return err
	}
	hash, err := useradmin.HashPassword(password)
	if err != nil {
		return usageError{err}
	}
	if err := identity.CheckPassword(password, &identity.User{}); err != nil {
		fmt.Fprintln(o.log, "warning:", err)
	}
	fmt.Fprintln(o.out, hash)
	return nil
}
