package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

type completionCommand struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Help is shown by "valetkey completion --help".
func (completionCommand) Help() string {
	return "Example: source <(valetkey completion bash)"
}

// Run prints a script made from the commands and their flags.
func (c *completionCommand) Run(o *output, model *kong.Application) error {
	var names []string
	flags := map[string][]string{}
	for _, command := range model.Children {
		names = append(names, command.Name)
		for _, flag := range command.Flags {
			flags[command.Name] = append(flags[command.Name], "--"+flag.Name)
		}
		for _, child := range command.Children {
			flags[command.Name] = append(flags[command.Name], child.Name)
		}
		for _, child := range command.Children {
			for _, flag := range child.Flags {
				if word := "--" + flag.Name; !slices.Contains(flags[command.Name], word) {
					flags[command.Name] = append(flags[command.Name], word)
				}
			}
		}
	}
	switch c.Shell {
	case "fish":
		for _, command := range model.Children {
			fmt.Fprintf(o.out, "complete -c valetkey -n __fish_use_subcommand -f -a %s -d %q\n", command.Name, command.Help)
			for _, child := range command.Children {
				fmt.Fprintf(o.out, "complete -c valetkey -n '__fish_seen_subcommand_from %s' -f -a %s -d %q\n", command.Name, child.Name, child.Help)
			}
			for _, flag := range command.Flags {
				fmt.Fprintf(o.out, "complete -c valetkey -n '__fish_seen_subcommand_from %s' -l %s -d %q\n", command.Name, flag.Name, flag.Help)
			}
		}
		return nil
	case "zsh":
		fmt.Fprintln(o.out, "autoload -U +X bashcompinit && bashcompinit")
	}
	fmt.Fprintf(o.out, "_valetkey() {\n  local current=${COMP_WORDS[COMP_CWORD]}\n  case ${COMP_WORDS[1]} in\n")
	for _, name := range names {
		fmt.Fprintf(o.out, "    %s) COMPREPLY=($(compgen -f -W '%s' -- \"$current\")); return;;\n", name, strings.Join(flags[name], " "))
	}
	fmt.Fprintf(o.out, "  esac\n  COMPREPLY=($(compgen -W '%s' -- \"$current\"))\n}\ncomplete -F _valetkey valetkey\n", strings.Join(names, " "))
	return nil
}
