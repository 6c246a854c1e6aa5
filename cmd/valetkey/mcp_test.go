package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// runAgent is the program "agent" of the scripts: it starts "valetkey mcp" with its arguments as an MCP
// client does, asks it to list clients, and prints the names of the tools and the answer.
func runAgent() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := ask(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "agent:", err)
		os.Exit(1)
	}
}

func ask(ctx context.Context, args []string) error {
	command := exec.Command("valetkey", append([]string{"mcp"}, args...)...)
	command.Stderr = os.Stderr
	session, err := mcp.NewClient(&mcp.Implementation{Name: "agent", Version: "1"}, nil).Connect(ctx, &mcp.CommandTransport{Command: command}, nil)
	if err != nil {
		return err
	}
	defer session.Close()
	for tool, err := range session.Tools(ctx, nil) {
		if err != nil {
			return err
		}
		fmt.Println(tool.Name)
	}
	result, err := session.CallTool(ctx, &mcp.CallToolParams{Name: "list_clients"})
	if err != nil {
		return err
	}
	fmt.Printf("error=%t %s\n", result.IsError, result.Content[0].(*mcp.TextContent).Text)
	return nil
}
