// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// DefaultVersion is the release of NetBox that is started if none is named.
const DefaultVersion = "4.7.3"

// Names of environment variables.
const (
	// EnvCache names the folder for what is built once instead of
	// ~/.cache/bm-ccm.
	EnvCache = "BM_CCM_CACHE"
	// EnvChroot, set to 1, makes NetBox run inside a Debian 13 of its own even
	// if the machine has a Python that is new enough.
	EnvChroot = "BM_CCM_NETBOX_CHROOT"
)

// Options say how to run a NetBox.
type Options struct {
	// Dir holds the state and the logs. It is made if it is not there. One
	// server runs in it at a time. Sockets and the database are in a folder
	// of the run directly under /tmp, whose name is made from Dir's.
	Dir string
	// Listen is the address and port of the web server. Port 0 takes a free
	// one. Empty means 127.0.0.1:0.
	Listen string
	// NetNS is the name of a network namespace (ip netns) to run in. Empty
	// means the caller's.
	NetNS string
	// Version is the release, 4.7 or newer. Empty means DefaultVersion.
	Version string
	// Detach says that the server goes on when the process that called Start
	// is gone; Down stops it.
	Detach bool
	// Log takes progress lines. Nil drops them.
	Log io.Writer
}

var versionPattern = regexp.MustCompile(`^(\d+)\.(\d+)\.\d+$`)

// complete checks the options and fills in defaults.
func (o Options) complete() (Options, error) {
	var errs []error
	if o.Dir == "" {
		errs = append(errs, errors.New("dir is empty: name a folder for state and logs"))
	} else if dir, err := filepath.Abs(o.Dir); err != nil {
		errs = append(errs, fmt.Errorf("dir %q: %w", o.Dir, err))
	} else {
		o.Dir = dir
	}
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	if _, err := netip.ParseAddrPort(o.Listen); err != nil {
		errs = append(errs, fmt.Errorf("listen is %q: want an address and a port like 127.0.0.1:8000", o.Listen))
	}
	if strings.ContainsAny(o.NetNS, "/ ") {
		errs = append(errs, fmt.Errorf("network namespace %q: want a name as \"ip netns\" lists it", o.NetNS))
	}
	if o.Version == "" {
		o.Version = DefaultVersion
	}
	if err := checkVersion(o.Version); err != nil {
		errs = append(errs, err)
	}
	if o.Log == nil {
		o.Log = io.Discard
	}
	return o, errors.Join(errs...)
}

func checkVersion(v string) error {
	m := versionPattern.FindStringSubmatch(v)
	if m == nil {
		return fmt.Errorf("version is %q: want a release like %s", v, DefaultVersion)
	}
	major, _ := strconv.Atoi(m[1]) // digits, by the pattern
	minor, _ := strconv.Atoi(m[2])
	if major < 4 || major == 4 && minor < 7 {
		return fmt.Errorf("version is %s: PyPI has NetBox from 4.7.0 on", v)
	}
	return nil
}

// cacheBase is the folder for what is built once.
func cacheBase() (string, error) {
	if dir := os.Getenv(EnvCache); dir != "" {
		return filepath.Abs(dir)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("finding the cache (set %s to name one): %w", EnvCache, err)
	}
	return filepath.Join(cache, "bm-ccm"), nil
}
