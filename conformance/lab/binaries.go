// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Environment variables that say where binaries come from.
const (
	// EnvCache names the cache folder; the default is bm-ccm in the user's.
	EnvCache = "BM_CCM_CACHE"
	// EnvBinaries names a folder of ready Kubernetes binaries (and etcd and
	// agnhost), which are then not built.
	EnvBinaries = "BM_CCM_KUBE_BINARIES"
)

const modulePath = "github.com/bm-ccm/bm-ccm/conformance"

// kubePackages are what is built from the module graph, by binary name.
var kubePackages = []struct{ name, pkg string }{
	{"etcd", "go.etcd.io/etcd/server/v3"},
	{"kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"},
	{"kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"},
	{"kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"},
	{"kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy"},
	{"kubectl", "k8s.io/kubernetes/cmd/kubectl"},
	{"agnhost", "k8s.io/kubernetes/test/images/agnhost"},
}

// ownPackages are the lab's own programs, checked for changes on every start.
var ownPackages = []string{"kubelet", "cmd/podinit", "cmd/forward", "cmd/workload"}

// binaries finds programs by name.
type binaries struct {
	kube string // folder
	own  string // folder
}

func (b binaries) path(name string) string {
	for _, k := range kubePackages {
		if k.name == name {
			return filepath.Join(b.kube, name)
		}
	}
	return filepath.Join(b.own, name)
}

// builder builds what is missing, one build at a time on this machine.
type builder struct {
	module string
	cache  string
	say    func(string, ...any)
}

func newBuilder(say func(string, ...any)) (*builder, error) {
	module, err := findModule()
	if err != nil {
		return nil, err
	}
	cache := os.Getenv(EnvCache)
	if cache == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("finding the cache folder (set %s): %w", EnvCache, err)
		}
		cache = filepath.Join(base, "bm-ccm")
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, fmt.Errorf("making the cache folder: %w", err)
	}
	return &builder{module: module, cache: cache, say: say}, nil
}

// ProductDir is the folder of the product's module, the one above this module.
func ProductDir() (string, error) {
	module, err := findModule()
	return filepath.Dir(module), err
}

// Build builds the programs of a lab, those of Kubernetes too, where they are
// missing. It says to log how far it is.
func Build(ctx context.Context, log io.Writer) error {
	b, err := newBuilder(newProgress(log).say)
	if err != nil {
		return err
	}
	_, err = b.build(ctx, ownPackages)
	return err
}

// findModule looks for the conformance module in the working directory, the
// folders above it, and folders called conformance in those.
func findModule() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("finding the working directory: %w", err)
	}
	for {
		for _, d := range []string{dir, filepath.Join(dir, "conformance")} {
			if isModule(d) {
				return d, nil
			}
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", fmt.Errorf("module %s not found here or above: run this inside bm-ccm's source tree", modulePath)
		}
		dir = up
	}
}

func isModule(dir string) bool {
	f, err := os.Open(filepath.Join(dir, "go.mod"))
	if err != nil {
		return false
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	return sc.Scan() && strings.TrimSpace(sc.Text()) == "module "+modulePath
}

// kubernetesVersion reads the version of k8s.io/kubernetes from go.mod.
func (b *builder) kubernetesVersion() (string, error) {
	raw, err := os.ReadFile(filepath.Join(b.module, "go.mod"))
	if err != nil {
		return "", fmt.Errorf("reading go.mod: %w", err)
	}
	for line := range strings.SplitSeq(string(raw), "\n") {
		f := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require "))
		if len(f) >= 2 && f[0] == "k8s.io/kubernetes" {
			return f[1], nil
		}
	}
	return "", errors.New("go.mod does not require k8s.io/kubernetes")
}

// kubeDir is the folder of the Kubernetes binaries of this toolchain and of the
// versions in go.sum. Only Kubernetes' and etcd's own modules count: what the
// rest of this module requires changes often and is no reason to build again.
func (b *builder) kubeDir(version string) (string, error) {
	sum, err := os.ReadFile(filepath.Join(b.module, "go.sum"))
	if err != nil {
		return "", fmt.Errorf("reading go.sum: %w", err)
	}
	h := sha256.New()
	for line := range strings.Lines(string(sum)) {
		if strings.HasPrefix(line, "k8s.io/") || strings.HasPrefix(line, "go.etcd.io/") {
			h.Write([]byte(line))
		}
	}
	return filepath.Join(b.cache, fmt.Sprintf("%s-%s-%s", version, runtime.Version(), hex.EncodeToString(h.Sum(nil)[:6]))), nil
}

// ownDir is the folder of what is built from this source tree.
func (b *builder) ownDir() string {
	h := sha256.Sum256([]byte(b.module))
	return filepath.Join(b.cache, "bin-"+hex.EncodeToString(h[:4]))
}

// build returns binaries that are up to date.
func (b *builder) build(ctx context.Context, own []string) (binaries, error) {
	unlock, err := b.lock(ctx)
	if err != nil {
		return binaries{}, err
	}
	defer unlock()
	version, err := b.kubernetesVersion()
	if err != nil {
		return binaries{}, err
	}
	out := binaries{kube: os.Getenv(EnvBinaries), own: b.ownDir()}
	if out.kube == "" {
		if out.kube, err = b.buildKube(ctx, version); err != nil {
			return binaries{}, err
		}
	} else if err := complete(out.kube); err != nil {
		return binaries{}, err
	}
	for _, pkg := range own {
		if err := b.goBuild(ctx, b.module, filepath.Join(out.own, filepath.Base(pkg)), "./"+pkg, versionFlags(version)); err != nil {
			return binaries{}, err
		}
	}
	return out, nil
}

// complete checks a folder of ready binaries.
func complete(dir string) error {
	var missing []string
	for _, k := range kubePackages {
		if _, err := os.Stat(filepath.Join(dir, k.name)); err != nil {
			missing = append(missing, k.name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%s=%s lacks %s", EnvBinaries, dir, strings.Join(missing, ", "))
	}
	return nil
}

func (b *builder) buildKube(ctx context.Context, version string) (string, error) {
	dir, err := b.kubeDir(version)
	if err != nil {
		return "", err
	}
	for i, k := range kubePackages {
		to := filepath.Join(dir, k.name)
		if _, err := os.Stat(to); err == nil {
			continue
		}
		b.say("building %s %s (%d of %d; once, minutes on a cold machine)", k.name, version, i+1, len(kubePackages))
		begin := time.Now()
		// Under another name first: an interrupted build must not look finished.
		if err := b.goBuild(ctx, b.module, to+".new", k.pkg, versionFlags(version)); err != nil {
			return "", err
		}
		if err := os.Rename(to+".new", to); err != nil {
			return "", fmt.Errorf("installing %s: %w", k.name, err)
		}
		b.say("built %s in %.0f s", k.name, time.Since(begin).Seconds())
	}
	return dir, nil
}

// versionFlags make the binaries say their version.
func versionFlags(version string) string {
	parts := strings.Split(strings.TrimPrefix(version, "v"), ".")
	const pkg = "k8s.io/component-base/version."
	return fmt.Sprintf(" -X %sgitVersion=%s -X %sgitMajor=%s -X %sgitMinor=%s", pkg, version, pkg, parts[0], pkg, parts[1])
}

// goBuild builds pkg of the module in dir. A binary that is up to date is not
// linked again.
func (b *builder) goBuild(ctx context.Context, dir, to, pkg, ldflags string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return fmt.Errorf("making the folder for %s: %w", pkg, err)
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-trimpath", "-ldflags=-s -w"+ldflags, "-o", to, pkg)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building %s: %w\n%s", pkg, err, bytes.TrimSpace(out))
	}
	return nil
}

// product builds bm-ccm itself, from the module above this one.
func (b *builder) product(ctx context.Context) (string, error) {
	unlock, err := b.lock(ctx)
	if err != nil {
		return "", err
	}
	defer unlock()
	to := filepath.Join(b.ownDir(), "bm-ccm")
	return to, b.goBuild(ctx, filepath.Dir(b.module), to, "./cmd/bm-ccm", "")
}

// lock waits until no other process builds into the same cache.
func (b *builder) lock(ctx context.Context) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(b.cache, "build.lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening the build lock: %w", err)
	}
	for said := false; ; said = true {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil // closing unlocks
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("locking the build: %w", err), f.Close())
		}
		if !said {
			b.say("waiting for another build into %s", b.cache)
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), f.Close())
		case <-time.After(200 * time.Millisecond):
		}
	}
}
