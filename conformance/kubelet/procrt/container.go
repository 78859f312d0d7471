// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package procrt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"
)

// container is one process tree. Its mutable fields are guarded by Runtime.mu.
type container struct {
	id      string
	sandbox *sandbox
	image   Image
	cfg     *runtimeapi.ContainerConfig
	logPath string
	created time.Time
	done    chan struct{} // closed when the process has ended

	cmd      *exec.Cmd
	state    runtimeapi.ContainerState
	started  time.Time
	finished time.Time
	exitCode int
}

// CreateContainer implements the CRI.
func (r *Runtime) CreateContainer(_ context.Context, sandboxID string, cfg *runtimeapi.ContainerConfig, sc *runtimeapi.PodSandboxConfig) (string, error) {
	s, err := r.sandbox(sandboxID)
	if err != nil {
		return "", err
	}
	img, ok := r.find(cfg.Image.GetImage())
	if !ok {
		return "", fmt.Errorf("image %q is unknown to the lab", cfg.Image.GetImage())
	}
	c := &container{
		id: r.newID("c"), sandbox: s, image: img, cfg: cfg, created: time.Now(), done: make(chan struct{}),
		logPath: filepath.Join(sc.LogDirectory, cfg.LogPath),
		state:   runtimeapi.ContainerState_CONTAINER_CREATED,
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.containers[c.id] = c
	return c.id, nil
}

// StartContainer implements the CRI. It returns once the container's command
// runs, or with what kept it from running.
func (r *Runtime) StartContainer(_ context.Context, id string) error {
	c, err := r.container(id)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(c.logPath), 0o755); err != nil {
		return fmt.Errorf("making the log folder: %w", err)
	}
	log, err := openLog(c.logPath)
	if err != nil {
		return err
	}
	stdout, stderr := log.stream("stdout"), log.stream("stderr")
	cmd, err := r.launch(c, stdout, stderr)
	if err != nil {
		return errors.Join(fmt.Errorf("starting container %s: %w", c.cfg.Metadata.GetName(), err), log.Close())
	}
	r.mu.Lock()
	c.cmd, c.state, c.started = cmd, runtimeapi.ContainerState_CONTAINER_RUNNING, time.Now()
	r.mu.Unlock()
	go func() {
		r.await(c)
		if err := errors.Join(stdout.flush(), stderr.flush(), log.Close()); err != nil {
			klog.ErrorS(err, "Finishing a container's log", "container", c.id)
		}
		close(c.done)
	}()
	return nil
}

// await records how the container's process ended.
func (r *Runtime) await(c *container) {
	err := c.cmd.Wait()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		klog.ErrorS(err, "Waiting for a container", "container", c.id)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c.state, c.finished = runtimeapi.ContainerState_CONTAINER_EXITED, time.Now()
	c.exitCode = exitCode(c.cmd.ProcessState)
}

// exitCode is that of a shell: 128 plus the number of the signal that killed.
func exitCode(ps *os.ProcessState) int {
	if ws, ok := ps.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ps.ExitCode()
}

// StopContainer implements the CRI: SIGTERM, and SIGKILL after timeout
// seconds.
func (r *Runtime) StopContainer(_ context.Context, id string, timeout int64) error {
	c, err := r.container(id)
	if err != nil {
		return err
	}
	r.mu.Lock()
	running := c.state == runtimeapi.ContainerState_CONTAINER_RUNNING
	r.mu.Unlock()
	if !running {
		return nil
	}
	if timeout > 0 {
		c.signal(syscall.SIGTERM)
		select {
		case <-c.done:
			return nil
		case <-time.After(time.Duration(timeout) * time.Second):
		}
	}
	c.signal(syscall.SIGKILL)
	<-c.done
	return nil
}

// signal sends to the container's process group. Its first process is init of
// a PID namespace: when it dies, everything in the container dies.
func (c *container) signal(sig syscall.Signal) {
	if err := syscall.Kill(-c.cmd.Process.Pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		klog.ErrorS(err, "Signalling a container", "container", c.id, "signal", sig)
	}
}

// RemoveContainer implements the CRI.
func (r *Runtime) RemoveContainer(ctx context.Context, id string) error {
	if err := r.StopContainer(ctx, id, 0); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.containers, id)
	return nil
}

// ListContainers implements the CRI. The kubelet relies on the filters.
func (r *Runtime) ListContainers(_ context.Context, f *runtimeapi.ContainerFilter) ([]*runtimeapi.Container, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []*runtimeapi.Container
	for _, c := range r.containers {
		if !c.selected(f) {
			continue
		}
		out = append(out, &runtimeapi.Container{
			Id: c.id, PodSandboxId: c.sandbox.id, Metadata: c.cfg.Metadata,
			Image: c.cfg.Image, ImageRef: c.cfg.Image.Image, ImageId: c.cfg.Image.Image,
			State: c.state, CreatedAt: c.created.UnixNano(), Labels: c.cfg.Labels, Annotations: c.cfg.Annotations,
		})
	}
	return out, nil
}

func (c *container) selected(f *runtimeapi.ContainerFilter) bool {
	if f == nil {
		return true
	}
	return (f.Id == "" || f.Id == c.id) &&
		(f.PodSandboxId == "" || f.PodSandboxId == c.sandbox.id) &&
		(f.State == nil || f.State.State == c.state) &&
		matches(f.LabelSelector, c.cfg.Labels)
}

// ContainerStatus implements the CRI.
func (r *Runtime) ContainerStatus(_ context.Context, id string, _ bool) (*runtimeapi.ContainerStatusResponse, error) {
	c, err := r.container(id)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s := &runtimeapi.ContainerStatus{
		Id: id, Metadata: c.cfg.Metadata, State: c.state, CreatedAt: c.created.UnixNano(),
		StartedAt: nanos(c.started), FinishedAt: nanos(c.finished), ExitCode: int32(c.exitCode),
		Image: c.cfg.Image, ImageRef: c.cfg.Image.Image, ImageId: c.cfg.Image.Image,
		Labels: c.cfg.Labels, Annotations: c.cfg.Annotations, Mounts: c.cfg.Mounts, LogPath: c.logPath,
	}
	if c.state == runtimeapi.ContainerState_CONTAINER_EXITED {
		s.Reason = "Completed"
		if c.exitCode != 0 {
			s.Reason = "Error"
		}
	}
	return &runtimeapi.ContainerStatusResponse{Status: s}, nil
}

func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}
