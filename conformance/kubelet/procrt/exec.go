// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package procrt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/klog/v2"
	utilexec "k8s.io/utils/exec"
)

// ExecSync implements the CRI. timeout 0 means none.
func (r *Runtime) ExecSync(ctx context.Context, id string, argv []string, timeout time.Duration) ([]byte, []byte, error) {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	var stdout, stderr bytes.Buffer
	err := r.exec(ctx, id, argv, nil, &stdout, &stderr)
	return stdout.Bytes(), stderr.Bytes(), err
}

// enter makes the command that runs argv in a running container.
func (r *Runtime) enter(ctx context.Context, id string, argv []string) (*exec.Cmd, error) {
	c, err := r.container(id)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	running := c.state == runtimeapi.ContainerState_CONTAINER_RUNNING
	r.mu.Unlock()
	if !running {
		return nil, fmt.Errorf("container %s is not running", id)
	}
	spec := r.spec(c)
	args := []string{"--target", strconv.Itoa(c.cmd.Process.Pid), "--mount", "--uts", "--ipc", "--net", "--pid",
		"--setuid", strconv.FormatInt(spec.User, 10), "--setgid", strconv.FormatInt(spec.Group, 10)}
	if wd := spec.WorkingDir; wd != "" {
		args = append(args, "--", "sh", "-c", `cd "$0" && exec "$@"`, wd)
	} else {
		args = append(args, "--")
	}
	cmd := exec.CommandContext(ctx, "nsenter", append(args, argv...)...)
	cmd.Env = spec.Env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	return cmd, nil
}

func (r *Runtime) exec(ctx context.Context, id string, argv []string, in io.Reader, stdout, stderr io.Writer) error {
	cmd, err := r.enter(ctx, id, argv)
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	if in != nil {
		// Not cmd.Stdin: Wait would wait for the user to close it.
		pipe, err := cmd.StdinPipe()
		if err != nil {
			return fmt.Errorf("connecting standard input: %w", err)
		}
		go copyInput(pipe, in)
	}
	return execError(ctx, cmd.Run())
}

func copyInput(to io.WriteCloser, from io.Reader) {
	_, err := io.Copy(to, from)
	if err = errors.Join(err, to.Close()); err != nil && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, os.ErrClosed) {
		klog.V(4).InfoS("Copying standard input ended", "err", err)
	}
}

// execError turns an exit code into the error the kubelet looks for.
func execError(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("the command took too long: %w", context.DeadlineExceeded)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return utilexec.CodeExitError{Err: fmt.Errorf("command terminated with exit code %d", exit.ExitCode()), Code: exit.ExitCode()}
	}
	return err
}

// Exec implements the CRI.
func (r *Runtime) Exec(_ context.Context, q *runtimeapi.ExecRequest) (*runtimeapi.ExecResponse, error) {
	return r.stream.GetExec(q)
}

// Attach implements the CRI.
func (r *Runtime) Attach(_ context.Context, q *runtimeapi.AttachRequest) (*runtimeapi.AttachResponse, error) {
	return r.stream.GetAttach(q)
}

// PortForward implements the CRI.
func (r *Runtime) PortForward(_ context.Context, q *runtimeapi.PortForwardRequest) (*runtimeapi.PortForwardResponse, error) {
	return r.stream.GetPortForward(q)
}

// streamer serves the streaming server.
type streamer struct{ rt *Runtime }

// Exec runs argv in the container, on a terminal if tty is set.
func (s streamer) Exec(ctx context.Context, id string, argv []string, in io.Reader, stdout, stderr io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize) error {
	if tty {
		return s.rt.execTTY(ctx, id, argv, in, stdout, resize)
	}
	return s.rt.exec(ctx, id, argv, in, orDiscard(stdout), orDiscard(stderr))
}

func orDiscard(w io.WriteCloser) io.Writer {
	if w == nil {
		return io.Discard
	}
	return w
}

// Attach is refused: containers have no standard input to attach to.
func (streamer) Attach(context.Context, string, io.Reader, io.WriteCloser, io.WriteCloser, bool, <-chan remotecommand.TerminalSize) error {
	return errors.New("the lab's container runtime cannot attach; use exec or logs")
}

// PortForward connects the stream to a port of the pod.
func (s streamer) PortForward(ctx context.Context, sandboxID string, port int32, stream io.ReadWriteCloser) error {
	sb, err := s.rt.sandbox(sandboxID)
	if err != nil {
		return err
	}
	args := []string{"nc", "-N", "127.0.0.1", strconv.Itoa(int(port))}
	if sb.netns != "" {
		args = append([]string{"nsenter", "--net=" + netnsPath(sb.netns), "--"}, args...)
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdout = stream
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("connecting the stream: %w", err)
	}
	go copyInput(pipe, stream)
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("forwarding to port %d: %w", port, err)
	}
	return nil
}
