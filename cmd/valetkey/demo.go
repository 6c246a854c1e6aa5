package main

import (
	"context"
	"fmt"

	"github.com/valetkey/valetkey/demo"
)

type demoCommand struct {
	Check bool `help:"Run every scene and every refusal without a browser, print the results, and exit."`
}

// Help is shown by "valetkey demo --help".
func (demoCommand) Help() string {
	return "Everything runs on free loopback ports and keeps its data in memory. Open the printed URL in a browser.\n\n" +
		"Example: valetkey demo --check"
}

// Run starts the demo and waits until ctx is done.
func (c *demoCommand) Run(ctx context.Context, o *output) error {
	if c.Check {
		return demo.Check(ctx, o.out, o.log)
	}
	d, err := demo.Start(ctx, o.log, 0)
	if err != nil {
		return err
	}
	fmt.Fprintf(o.out, "Open %s in a browser and sign in as %s with the password %s.\nPress Ctrl-C to stop.\n", d.URL(), demo.Username, demo.Password)
	<-ctx.Done()
	return d.Close()
}
