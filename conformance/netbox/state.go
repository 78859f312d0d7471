// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// state is what is known of a run, in its folder.
type state struct {
	Version  string `json:"version"`
	URL      string `json:"url,omitempty"`
	Token    string `json:"token,omitempty"` // the administrator's; the file is root's alone
	NetNS    string `json:"netns,omitempty"`
	Run      string `json:"run"` // folder of sockets and database
	Detached bool   `json:"detached,omitempty"`
	// Owner is the process that called Start.
	Owner     process   `json:"owner"`
	Processes []process `json:"processes"`

	path string
}

func statePath(dir string) string { return filepath.Join(dir, "state.json") }

// readState returns nil if there is no run.
func readState(dir string) (*state, error) {
	raw, err := os.ReadFile(statePath(dir))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil //nolint:nilnil // no run is an answer
	}
	if err != nil {
		return nil, fmt.Errorf("reading the state of the last run: %w", err)
	}
	st := &state{path: statePath(dir)}
	if err := json.Unmarshal(raw, st); err != nil {
		return nil, fmt.Errorf("reading the state of the last run, %s: %w", st.path, err)
	}
	return st, nil
}

func (st *state) save() error {
	raw, err := json.MarshalIndent(st, "", "  ")
	if err != nil {
		return fmt.Errorf("writing the state: %w", err)
	}
	// Written beside and renamed: a crash leaves the old one or the new one.
	if err := os.WriteFile(st.path+".new", append(raw, '\n'), 0o600); err != nil {
		return fmt.Errorf("writing the state: %w", err)
	}
	if err := os.Rename(st.path+".new", st.path); err != nil {
		return fmt.Errorf("writing the state: %w", err)
	}
	return nil
}

func (st *state) alive() bool { return slices.ContainsFunc(st.Processes, process.alive) }

// end stops all processes, last started first, and removes the run's folder.
func (st *state) end() error {
	var errs []error
	for _, p := range slices.Backward(st.Processes) {
		errs = append(errs, p.end())
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := os.RemoveAll(st.Run); err != nil {
		return fmt.Errorf("removing the run's folder: %w", err)
	}
	if err := os.Remove(st.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing the state: %w", err)
	}
	return nil
}

// ErrRunning says that a server runs in the folder already.
var ErrRunning = errors.New("a NetBox runs here already")

// clear ends what a crashed run left in the folder.
func sweepState(dir string, p *progress) error {
	st, err := readState(dir)
	if st == nil || err != nil {
		return err
	}
	if st.alive() && (st.Detached || st.Owner.alive()) {
		return fmt.Errorf("%s: %w at %s (process %d started it)", dir, ErrRunning, st.URL, st.Owner.PID)
	}
	if st.alive() {
		p.printf("ending what a former run left in %s", dir)
	}
	return st.end()
}

// runFolder is the folder of sockets and database: short, since a socket's path
// has 107 bytes at most, and reachable for PostgreSQL's user, which a home
// folder is not.
func runFolder(dir string) string {
	sum := sha256.Sum256([]byte(dir))
	return "/tmp/bmnb-" + hex.EncodeToString(sum[:5])
}
