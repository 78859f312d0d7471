// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// notable are the flags of the controller that users change; upstream has many
// more.
var notable = []string{
	"cloud-config", "kubeconfig", "kube-api-qps", "kube-api-burst", "concurrent-service-syncs", "concurrent-node-syncs",
	"node-status-update-frequency", "controllers", "leader-elect", "leader-elect-resource-name", "leader-elect-resource-namespace",
	"leader-elect-lease-duration", "bind-address", "secure-port", "tls-cert-file", "tls-private-key-file",
	"authentication-kubeconfig", "authorization-kubeconfig", "feature-gates", "logging-format", "v",
}

// command is what the help of a command says.
type command struct {
	path  string // "bm-ccm netbox init"
	about string
	flags []cliFlag
	subs  []string
}

type cliFlag struct {
	name, short, typ, text, preset string
}

var (
	flagLine = regexp.MustCompile(`^ +(?:-(\w), )?--([\w-]+)(?: (\S+))?(?:  +(.*))?$`)
	subLine  = regexp.MustCompile(`^  ([a-z][\w-]*) +\S`)
	preset   = regexp.MustCompile(`\s*\(default (.*)\)$`)
)

// endless lists of values, which differ with every release of Kubernetes and
// Go, begin after these words.
var endless = []string{" Options are:", " Preferred values:"}

// parseHelp reads what cobra prints for --help.
func parseHelp(path, text string) command {
	c := command{path: path}
	about, rest, _ := strings.Cut(text, "\nUsage:")
	c.about = oneLine(strings.Split(strings.TrimSpace(about), "\n\n")[0])
	section := ""
	for line := range strings.Lines(rest) {
		line = strings.TrimRight(line, "\n ")
		switch m := flagLine.FindStringSubmatch(line); {
		case line == "":
		case line[0] != ' ':
			section = line
		case strings.HasSuffix(section, "ommands:"):
			if sub := subLine.FindStringSubmatch(line); sub != nil && sub[1] != "completion" && sub[1] != "help" {
				c.subs = append(c.subs, sub[1])
			}
		case section == "Global Flags:": // of every subcommand
		case !strings.HasSuffix(strings.ToLower(section), "flags:"):
		case m != nil:
			c.flags = append(c.flags, cliFlag{short: m[1], name: m[2], typ: m[3], text: m[4]})
		case len(c.flags) > 0: // goes on with the text of the flag before
			c.flags[len(c.flags)-1].text += " " + strings.TrimSpace(line)
		}
	}
	for i := range c.flags {
		c.flags[i].tidy()
	}
	return c
}

// tidy takes the default out of the text, and what is endless away.
func (f *cliFlag) tidy() {
	f.text = oneLine(f.text)
	if m := preset.FindStringSubmatch(f.text); m != nil {
		f.preset = m[1]
		f.text = strings.TrimSuffix(f.text, m[0])
	}
	for _, mark := range endless {
		if text, _, found := strings.Cut(f.text, mark); found {
			f.text = text + " (`--help` lists them)"
		}
	}
}

// flagsPage asks every command for its help.
func flagsPage(ctx context.Context, root, bin string) (page, error) {
	mains, err := filepath.Glob(filepath.Join(root, "cmd", "*", "*.go"))
	if err != nil {
		return page{}, fmt.Errorf("looking for commands: %w", err)
	}
	if len(mains) == 0 {
		return page{}, errors.New("looking for commands: none below " + root + "/cmd")
	}
	if bin == "" {
		if bin, err = os.MkdirTemp("", "refdoc-"); err != nil {
			return page{}, fmt.Errorf("building the commands: %w", err)
		}
		defer os.RemoveAll(bin)
		build := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", bin+"/", "./cmd/...")
		build.Dir, build.Stderr = root, os.Stderr
		if err := build.Run(); err != nil {
			return page{}, fmt.Errorf("building the commands: %w", err)
		}
	}
	var commands []command
	for _, f := range mains {
		name := filepath.Base(filepath.Dir(f))
		if slices.ContainsFunc(commands, func(c command) bool { return c.path == name }) {
			continue
		}
		if commands, err = collect(ctx, commands, bin, []string{name}); err != nil {
			return page{}, err
		}
	}
	return renderFlags(commands)
}

// collect adds a command and those below it.
func collect(ctx context.Context, to []command, bin string, words []string) ([]command, error) {
	ask := exec.CommandContext(ctx, filepath.Join(bin, words[0]), append(slices.Clone(words[1:]), "--help")...)
	ask.Env = []string{"PATH=" + os.Getenv("PATH")} // and no more: some defaults come from the environment
	text, err := ask.Output()
	if err != nil {
		return nil, fmt.Errorf("%s --help: %w", strings.Join(words, " "), err)
	}
	c := parseHelp(strings.Join(words, " "), string(text))
	to = append(to, c)
	for _, sub := range c.subs {
		if to, err = collect(ctx, to, bin, append(slices.Clone(words), sub)); err != nil {
			return nil, err
		}
	}
	return to, nil
}

const flagsIntro = `# Flags

As ` + "`--help`" + ` of each command prints them. The controller's are those of upstream's
cloud-controller-manager, with presets for thousands of Services. Every subcommand also has
` + "`-v`, `--vmodule` and `--log-flush-frequency`" + `.
`

// renderFlags shows what users need first, and folds the rest away.
func renderFlags(commands []command) (page, error) {
	var b strings.Builder
	b.WriteString(flagsIntro)
	for _, c := range commands {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n", c.path, markdown(c.about))
		shown, folded := split(c)
		if c.path == "bm-ccm" {
			for _, name := range notable {
				if !slices.ContainsFunc(shown, func(f cliFlag) bool { return f.name == name }) {
					return page{}, fmt.Errorf("bm-ccm has no flag --%s any longer: take it off the list in hack/refdoc/flags.go", name)
				}
			}
		}
		if len(shown) > 0 {
			b.WriteString("\n")
			table(&b, []string{"flag", "default", "meaning"}, flagRows(shown))
		}
		if len(folded) > 0 {
			fmt.Fprintf(&b, "\n<details><summary>%d more, of upstream's</summary>\n\n", len(folded))
			table(&b, []string{"flag", "default", "meaning"}, flagRows(folded))
			b.WriteString("\n</details>\n")
		}
	}
	return page{"flags.md", b.String()}, nil
}

// split parts the flags of a command into those to show, for the controller in
// the order of notable, and those to fold away.
func split(c command) (shown, folded []cliFlag) {
	for _, f := range c.flags {
		switch {
		case f.name == "help" || f.name == "version":
		case c.path == "bm-ccm" && !slices.Contains(notable, f.name),
			strings.HasPrefix(f.name, "log-"), f.name == "vmodule":
			folded = append(folded, f)
		default:
			shown = append(shown, f)
		}
	}
	if c.path == "bm-ccm" {
		slices.SortFunc(shown, func(a, b cliFlag) int {
			return slices.Index(notable, a.name) - slices.Index(notable, b.name)
		})
	}
	return shown, folded
}

func flagRows(flags []cliFlag) [][]string {
	var rows [][]string
	for _, f := range flags {
		name := "--" + f.name
		if f.short != "" {
			name = "-" + f.short + ", " + name
		}
		if f.typ != "" {
			name += " " + f.typ
		}
		preset := ""
		if f.preset != "" {
			preset = code(f.preset)
		}
		rows = append(rows, []string{code(name), preset, markdown(f.text)})
	}
	return rows
}
