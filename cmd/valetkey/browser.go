package main

import (
	"os"
	"os/exec"

	"github.com/valetkey/valetkey/oauth/client"
)

// openBrowser opens a URL with the program in $BROWSER, or else in the system's browser.
func openBrowser(address string) error {
	program := os.Getenv("BROWSER")
	if program == "" {
		return client.OpenBrowser(address)
	}
	command := exec.Command(program, address)
	command.Stderr = os.Stderr
	if err := command.Start(); err != nil {
		return err
	}
	go command.Wait() // releases the process
	return nil
}
