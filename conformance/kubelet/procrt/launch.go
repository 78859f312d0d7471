// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package procrt

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/bm-ccm/bm-ccm/conformance/kubelet/podsetup"
)

// defaultPath is PATH in containers whose image and pod name none.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// launch starts podinit in the container's namespaces and waits until it has
// become the container's command.
func (r *Runtime) launch(c *container, stdout, stderr io.Writer) (*exec.Cmd, error) {
	spec, err := json.Marshal(r.spec(c))
	if err != nil {
		return nil, fmt.Errorf("encoding the container's setup: %w", err)
	}
	specR, specW, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("making a pipe: %w", err)
	}
	defer specR.Close()
	failR, failW, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("making a pipe: %w", err), specW.Close())
	}
	defer failR.Close()
	cmd := exec.Command(r.cfg.PodInit)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.ExtraFiles = []*os.File{specR, failW} // podsetup.SpecFD, podsetup.FailFD
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Cloneflags: cloneFlags(c)}
	err = startIn(c.sandbox.netns, cmd)
	failW.Close() // the child holds its own
	if err != nil {
		return nil, errors.Join(err, specW.Close())
	}
	_, err = specW.Write(spec)
	if err = errors.Join(err, specW.Close()); err != nil {
		return nil, fmt.Errorf("handing the setup over: %w", errors.Join(err, abandon(cmd)))
	}
	return cmd, awaitExec(cmd, failR)
}

// awaitExec reads what podinit says went wrong; the pipe closes by itself when
// podinit executes the container's command.
func awaitExec(cmd *exec.Cmd, fail io.Reader) error {
	msg, err := io.ReadAll(fail)
	if err != nil {
		return errors.Join(fmt.Errorf("reading from podinit: %w", err), abandon(cmd))
	}
	if len(msg) > 0 {
		return errors.Join(errors.New(strings.TrimSpace(string(msg))), abandon(cmd))
	}
	return nil
}

// abandon kills and reaps a process that did not become a container.
func abandon(cmd *exec.Cmd) error {
	if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("killing podinit: %w", err)
	}
	if err := cmd.Wait(); err != nil && cmd.ProcessState == nil {
		return fmt.Errorf("reaping podinit: %w", err)
	}
	return nil
}

func cloneFlags(c *container) uintptr {
	flags := uintptr(unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC)
	if !hostPID(c) {
		flags |= unix.CLONE_NEWPID
	}
	return flags
}

func hostPID(c *container) bool {
	return c.cfg.GetLinux().GetSecurityContext().GetNamespaceOptions().GetPid() == runtimeapi.NamespaceMode_NODE
}

// startIn starts cmd in the named network namespace, or in this process's own
// if the name is empty. The thread that changes its namespace is thrown away.
func startIn(netns string, cmd *exec.Cmd) error {
	if netns == "" {
		return cmd.Start()
	}
	ns, err := os.Open(netnsPath(netns))
	if err != nil {
		return fmt.Errorf("opening network namespace %s: %w", netns, err)
	}
	defer ns.Close()
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends here
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			result <- fmt.Errorf("entering network namespace %s: %w", netns, err)
			return
		}
		result <- cmd.Start()
	}()
	return <-result
}

// spec is what podinit has to set up.
func (r *Runtime) spec(c *container) podsetup.Spec {
	sc := c.cfg.GetLinux().GetSecurityContext()
	s := podsetup.Spec{
		RootDir:         filepath.Join(c.sandbox.dir, c.id),
		Hostname:        c.sandbox.cfg.Hostname,
		Argv:            c.argv(),
		Env:             c.env(),
		WorkingDir:      c.cfg.WorkingDir,
		User:            c.image.User,
		Groups:          sc.GetSupplementalGroups(),
		ReadOnlyRoot:    sc.GetReadonlyRootfs(),
		NoNewPrivileges: sc.GetNoNewPrivs(),
		HostPID:         hostPID(c),
		Sysctls:         c.sysctls(),
	}
	if s.Hostname == "" {
		s.Hostname = r.cfg.NodeName
	}
	if sc.GetRunAsUser() != nil {
		s.User = sc.GetRunAsUser().Value
	}
	s.Group = sc.GetRunAsGroup().GetValue()
	if !sc.GetPrivileged() {
		s.Capabilities = podsetup.Capabilities(sc.GetCapabilities().GetAddCapabilities(), sc.GetCapabilities().GetDropCapabilities())
	}
	s.Mounts = c.mounts()
	return s
}

// argv is the image's entry point unless the pod has a command.
func (c *container) argv() []string {
	entry := c.cfg.Command
	if len(entry) == 0 {
		entry = append([]string{"/" + filepath.Base(c.image.Command[0])}, c.image.Command[1:]...)
	}
	return append(append([]string(nil), entry...), c.cfg.Args...)
}

func (c *container) env() []string {
	out := []string{"PATH=" + defaultPath, "HOSTNAME=" + c.sandbox.cfg.Hostname}
	for _, e := range c.cfg.Envs {
		out = append(out, e.Key+"="+string(e.Value))
	}
	return out
}

func (c *container) mounts() []podsetup.Mount {
	bin := c.image.Command[0]
	out := []podsetup.Mount{
		{Source: bin, Target: "/" + filepath.Base(bin), ReadOnly: true},
		{Source: filepath.Join(c.sandbox.dir, "resolv.conf"), Target: "/etc/resolv.conf"},
	}
	for _, m := range c.cfg.Mounts {
		out = append(out, podsetup.Mount{
			Source: m.HostPath, Target: m.ContainerPath, ReadOnly: m.Readonly,
			Propagate: m.Propagation != runtimeapi.MountPropagation_PROPAGATION_PRIVATE,
		})
	}
	return out
}

// sysctls are those of the pod, and what containerd sets so that a server need
// not be root for a low port.
func (c *container) sysctls() map[string]string {
	if c.sandbox.netns == "" {
		return nil
	}
	out := map[string]string{"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"}
	maps.Copy(out, c.sandbox.cfg.GetLinux().GetSysctls())
	return out
}
