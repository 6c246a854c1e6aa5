package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// screenshot renders a page for the reviewer of the run, and returns the data URL that the
// suite accepts.
func (r *run) screenshot(ctx context.Context, html string) (string, error) {
	r.pictures.Lock()
	defer r.pictures.Unlock()
	directory, err := os.MkdirTemp(r.directory, "picture-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(directory)
	source, picture := filepath.Join(directory, "page.html"), filepath.Join(directory, "page.png")
	if err := os.WriteFile(source, []byte(html), 0o600); err != nil {
		return "", err
	}
	command := exec.CommandContext(ctx, r.chromium, "--headless", "--no-sandbox", "--disable-gpu", "--ignore-certificate-errors",
		"--disable-background-networking", "--window-size=800,1100", "--user-data-dir="+filepath.Join(directory, "profile"),
		"--screenshot="+picture, "file://"+source)
	if output, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("take a screenshot: %w\n%s", err, output)
	}
	png, err := os.ReadFile(picture)
	if err != nil {
		return "", fmt.Errorf("take a screenshot: %w", err)
	}
	return "data:image/png;base64," + base64.StdEncoding.EncodeToString(png), nil
}
