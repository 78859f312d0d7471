// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package podsetup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// oldRoot is where the host's root is while the new one is being filled.
const oldRoot = "/.host"

// devices are the host's devices a container gets.
var devices = []string{"null", "zero", "full", "random", "urandom", "tty"}

// source is a mount whose host side was opened before the root changed.
type source struct {
	Mount
	file *os.File
	dir  bool
}

// becomeRoot replaces the root by an overlay of the host's, writable in memory
// only, with fresh /proc, /sys, /dev, /run and /tmp, and mounts the volumes.
func (s *Spec) becomeRoot() error {
	if err := mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return err
	}
	root, err := s.overlay()
	if err != nil {
		return err
	}
	sources, err := openSources(s.Mounts)
	if err != nil {
		return err
	}
	if err := s.systemMounts(root); err != nil {
		return err
	}
	if err := pivot(root); err != nil {
		return err
	}
	for _, src := range sources {
		if err := src.bind(); err != nil {
			return err
		}
	}
	if err := errors.Join(unix.Unmount(oldRoot, unix.MNT_DETACH), os.Remove(oldRoot)); err != nil {
		return fmt.Errorf("letting go of the host's root: %w", err)
	}
	if s.ReadOnlyRoot {
		return mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
	}
	return nil
}

// overlay mounts the container's root and returns where.
func (s *Spec) overlay() (string, error) {
	if err := os.MkdirAll(s.RootDir, 0o755); err != nil {
		return "", fmt.Errorf("making the root folder: %w", err)
	}
	if err := mount("tmpfs", s.RootDir, "tmpfs", 0, "mode=0755"); err != nil {
		return "", err
	}
	dir := func(name string) string { return filepath.Join(s.RootDir, name) }
	for _, name := range []string{"upper", "work", "root"} {
		if err := os.Mkdir(dir(name), 0o755); err != nil {
			return "", fmt.Errorf("making the overlay's folders: %w", err)
		}
	}
	opts := "lowerdir=/,upperdir=" + dir("upper") + ",workdir=" + dir("work")
	return dir("root"), mount("overlay", dir("root"), "overlay", 0, opts)
}

// systemMounts mounts what every container has. The overlay shows only the
// host's root file system, not what is mounted in it.
func (s *Spec) systemMounts(root string) error {
	in := func(name string) string { return filepath.Join(root, name) }
	for _, name := range []string{"proc", "sys", "dev", "run", "tmp", oldRoot} {
		if err := os.MkdirAll(in(name), 0o755); err != nil {
			return fmt.Errorf("making /%s: %w", name, err)
		}
	}
	err := errors.Join(
		s.proc(in("proc")),
		mount("sysfs", in("sys"), "sysfs", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NOEXEC|unix.MS_NODEV, ""),
		mount("tmpfs", in("dev"), "tmpfs", unix.MS_NOSUID, "mode=0755"),
		mount("tmpfs", in("run"), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"),
		mount("tmpfs", in("tmp"), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777"),
	)
	if err != nil {
		return err
	}
	return makeDevices(in("dev"))
}

func (s *Spec) proc(at string) error {
	if s.HostPID {
		return mount("/proc", at, "", unix.MS_BIND|unix.MS_REC, "")
	}
	return mount("proc", at, "proc", unix.MS_NOSUID|unix.MS_NOEXEC|unix.MS_NODEV, "")
}

func makeDevices(dev string) error {
	for _, name := range devices {
		at := filepath.Join(dev, name)
		if err := touch(at); err != nil {
			return err
		}
		if err := mount("/dev/"+name, at, "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	for _, name := range []string{"pts", "shm"} {
		if err := os.Mkdir(filepath.Join(dev, name), 0o755); err != nil {
			return fmt.Errorf("making /dev/%s: %w", name, err)
		}
	}
	return errors.Join(
		mount("devpts", filepath.Join(dev, "pts"), "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620"),
		mount("tmpfs", filepath.Join(dev, "shm"), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777"),
		os.Symlink("pts/ptmx", filepath.Join(dev, "ptmx")),
		os.Symlink("/proc/self/fd", filepath.Join(dev, "fd")),
		os.Symlink("/proc/self/fd/0", filepath.Join(dev, "stdin")),
		os.Symlink("/proc/self/fd/1", filepath.Join(dev, "stdout")),
		os.Symlink("/proc/self/fd/2", filepath.Join(dev, "stderr")),
	)
}

// pivot makes root the root and keeps the old one at oldRoot.
func pivot(root string) error {
	if err := unix.PivotRoot(root, filepath.Join(root, oldRoot)); err != nil {
		return fmt.Errorf("changing the root: %w", err)
	}
	return os.Chdir("/")
}

// openSources opens the host side of the mounts, because a symbolic link in
// it means something else once the root has changed.
func openSources(mounts []Mount) ([]source, error) {
	out := make([]source, 0, len(mounts))
	for _, m := range mounts {
		fd, err := unix.Open(m.Source, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("opening %s for %s: %w", m.Source, m.Target, err)
		}
		f := os.NewFile(uintptr(fd), m.Source)
		info, err := f.Stat()
		if err != nil {
			return nil, fmt.Errorf("looking at %s for %s: %w", m.Source, m.Target, err)
		}
		out = append(out, source{Mount: m, file: f, dir: info.IsDir()})
	}
	return out, nil
}

func (s source) bind() error {
	defer s.file.Close()
	if err := s.makeTarget(); err != nil {
		return fmt.Errorf("making mount point %s: %w", s.Target, err)
	}
	from := fmt.Sprintf("/proc/self/fd/%d", s.file.Fd())
	if err := mount(from, s.Target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	if !s.Propagate {
		if err := mount("", s.Target, "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
			return err
		}
	}
	if s.ReadOnly {
		return mount("", s.Target, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
	}
	return nil
}

func (s source) makeTarget() error {
	if s.dir {
		return os.MkdirAll(s.Target, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(s.Target), 0o755); err != nil {
		return err
	}
	// /etc/resolv.conf may be a link into a /run that is not there.
	if info, err := os.Lstat(s.Target); err == nil && info.Mode()&os.ModeSymlink != 0 {
		if err := os.Remove(s.Target); err != nil {
			return err
		}
	}
	return touch(s.Target)
}

func touch(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("making a mount point: %w", err)
	}
	return f.Close()
}

func mount(from, at, fstype string, flags uintptr, options string) error {
	if err := unix.Mount(from, at, fstype, flags, options); err != nil {
		return fmt.Errorf("mounting %s %s on %s: %w", fstype, from, at, err)
	}
	return nil
}
