package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// screenshot renders a page that was shown, for the person who reviews the run, as the data
// URL that the suite takes.
func (r *run) screenshot(ctx context.Context, p page) (string, error) {
	r.pictures.Lock()
	defer r.pictures.Unlock()
	directory, err := os.MkdirTemp(r.directory, "picture-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(directory)
	base, err := url.Parse(p.url)
	if err != nil {
		return "", err
	}
	html := strings.Replace(p.body, "<head>", fmt.Sprintf("<head><base href=%q>", base.Scheme+"://"+base.Host), 1)
	source, picture := filepath.Join(directory, "page.html"), filepath.Join(directory, "page.png")
	if err := os.WriteFile(source, []byte(html), 0o600); err != nil {
		return "", err
	}
	command := exec.CommandContext(ctx, r.chromium, "--headless", "--no-sandbox", "--disable-gpu", "--ignore-certificate-errors",
		"--disable-background-networking", "--window-size=800,700", "--user-data-dir="+filepath.Join(directory, "profile"),
		"--screenshot="+picture, "file://"+source)
	if output, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("take a picture: %w\n%s", err, output)
	}
	png, err := os.ReadFile(picture)
	if err != nil {
		return "", fmt.Errorf("take a picture: %w", err)
	}
	return "data:image/png;base64," + base64.StdEncoding.EncodeToString(png), nil
}
