// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// python is a Python interpreter.
type python struct {
	path    string
	version string // like 3.13
	system  bool   // Debian's, which is split into packages
}

const askPython = `import sys
assert sys.version_info >= (3, 12)
print(sys.executable, "%d.%d" % sys.version_info[:2], sys.prefix)`

// findPython looks for a Python that NetBox runs on: 3.12 or newer.
func findPython(ctx context.Context) (python, error) {
	candidates := []string{"python3.13", "python3.12", "python3"}
	if home, err := os.UserHomeDir(); err == nil {
		// The shims on PATH may refuse where the versions behind them work.
		for _, name := range candidates {
			found, _ := filepath.Glob(filepath.Join(home, ".pyenv/versions/*/bin", name)) // the pattern is well-formed
			candidates = append(candidates, found...)
		}
	}
	for _, c := range candidates {
		if py, err := inspectPython(exec.CommandContext(ctx, c, "-c", askPython)); err == nil {
			return py, nil
		}
	}
	return python{}, errors.New("no Python 3.12 or newer on PATH or in ~/.pyenv/versions")
}

func inspectPython(cmd *exec.Cmd) (python, error) {
	out, err := cmd.Output()
	if err != nil {
		return python{}, fmt.Errorf("asking %s for its version: %w", cmd.Path, err)
	}
	f := strings.Fields(string(out))
	if len(f) != 3 {
		return python{}, fmt.Errorf("asking %s for its version: it answered %q", cmd.Path, out)
	}
	return python{path: f[0], version: f[1], system: f[2] == "/usr"}, nil
}
