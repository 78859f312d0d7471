// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// state is what another process needs to know to use a lab.
type state struct {
	Nodes    int              `json:"nodes"`
	IPv4Only bool             `json:"ipv4Only"`
	Kept     bool             `json:"kept"`
	Owner    int              `json:"owner"` // pid of the process that made it
	Created  time.Time        `json:"created"`
	NoCloud  bool             `json:"noCloudProvider"`
	Kube     string           `json:"kube"`
	Own      string           `json:"own"`
	Images   map[string]Image `json:"images"`
}

func kubeconfigPath(s *slot) string { return filepath.Join(s.dir(), "pki", "admin.kubeconfig") }

func stateFile(s *slot) string { return filepath.Join(s.dir(), "lab.json") }

func (l *Lab) save() error {
	raw, err := json.MarshalIndent(state{
		Nodes: l.opts.Nodes, IPv4Only: l.opts.IPv4Only, Kept: l.opts.Keep, Owner: os.Getpid(), Created: time.Now(),
		NoCloud: l.opts.NoCloudProvider,
		Kube:    l.bins.kube, Own: l.bins.own, Images: l.images,
	}, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the lab's state: %w", err)
	}
	if err := os.WriteFile(stateFile(l.slot), raw, 0o644); err != nil {
		return fmt.Errorf("writing the lab's state: %w", err)
	}
	return nil
}

// Info describes a lab on this machine.
type Info struct {
	Slot    int
	Nodes   int
	Kept    bool
	Live    bool // its owner lives; otherwise the next lab removes it
	Owner   int  // pid of the process that made it
	Created time.Time
	// Kubeconfig is the path of the cluster administrator's kubeconfig.
	Kubeconfig string
}

// List lists the labs of this machine.
func List() ([]Info, error) {
	var out []Info
	for n := range Slots {
		s := &slot{n: n}
		st, err := s.read()
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		live, err := s.live()
		if err != nil {
			return nil, err
		}
		out = append(out, Info{Slot: n, Nodes: st.Nodes, Kept: st.Kept, Live: live, Owner: st.Owner, Created: st.Created,
			Kubeconfig: kubeconfigPath(s)})
	}
	return out, nil
}

func (s *slot) read() (state, error) {
	var st state
	raw, err := os.ReadFile(stateFile(s))
	if err != nil {
		return st, fmt.Errorf("reading the state of slot %d: %w", s.n, err)
	}
	if err := json.Unmarshal(raw, &st); err != nil {
		return st, fmt.Errorf("decoding the state of slot %d: %w", s.n, err)
	}
	return st, nil
}

// live reports whether some process holds the slot.
func (s *slot) live() (bool, error) {
	probe, err := claim(s.n)
	if errors.Is(err, errBusy) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return false, probe.release()
}

// Open gives access to a lab that another process made and that is up.
func Open(n int) (*Lab, error) {
	s := &slot{n: n}
	st, err := s.read()
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("there is no lab in slot %d", n)
	}
	if err != nil {
		return nil, err
	}
	l := &Lab{
		opts: Options{Nodes: st.Nodes, IPv4Only: st.IPv4Only, Keep: st.Kept, NoCloudProvider: st.NoCloud}, slot: s,
		bins: binaries{kube: st.Kube, own: st.Own}, images: st.Images, say: func(string, ...any) {},
	}
	l.describe()
	if l.pki, err = loadPKI(filepath.Join(s.dir(), "pki")); err != nil {
		return nil, fmt.Errorf("the lab in slot %d is not up: %w", n, err)
	}
	return l, nil
}

// Remove removes the lab in slot n: one that was kept, or one whose process
// has died. A lab that belongs to a living process is its own to remove.
func Remove(n int) error {
	s := &slot{n: n}
	st, err := s.read()
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	live, lerr := s.live()
	if lerr != nil {
		return lerr
	}
	if live && !st.Kept {
		return fmt.Errorf("the lab in slot %d belongs to process %d: end that", n, st.Owner)
	}
	// A kept lab is held by one of its own processes. When that is gone, take
	// the slot before touching the rest, lest it is another lab's by then.
	if err := s.endProcesses(); err != nil {
		return err
	}
	mine, err := claim(n)
	if errors.Is(err, errBusy) {
		return nil // a new lab removed the old one and took its place
	}
	if err != nil {
		return err
	}
	return errors.Join(mine.destroy(), mine.release())
}
