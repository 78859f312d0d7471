// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package procrt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/klog/v2"
)

// execTTY runs argv in the container on a terminal of its own.
func (r *Runtime) execTTY(ctx context.Context, id string, argv []string, in io.Reader, out io.Writer, resize <-chan remotecommand.TerminalSize) error {
	cmd, err := r.enter(ctx, id, argv)
	if err != nil {
		return err
	}
	master, slave, err := openTerminal()
	if err != nil {
		return err
	}
	defer master.Close()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.Env = append(cmd.Env, "TERM=xterm")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := errors.Join(cmd.Start(), slave.Close()); err != nil {
		return fmt.Errorf("starting the command: %w", err)
	}
	go follow(master, resize)
	if in != nil {
		go func() { _, _ = io.Copy(master, in) }() // ends with the terminal
	}
	// The read ends with EIO when the last process leaves the terminal.
	if _, err := io.Copy(out, master); err != nil && !errors.Is(err, unix.EIO) {
		klog.V(4).InfoS("Reading from a terminal ended", "err", err)
	}
	return execError(ctx, cmd.Wait())
}

func follow(master *os.File, resize <-chan remotecommand.TerminalSize) {
	for size := range resize {
		ws := &unix.Winsize{Row: size.Height, Col: size.Width}
		if err := unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, ws); err != nil {
			return // the terminal is gone
		}
	}
}

// openTerminal returns both ends of a new pseudo terminal.
func openTerminal() (master, slave *os.File, err error) {
	master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("opening a terminal: %w", err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("opening a terminal: %w", err), master.Close())
	}
	return master, slave, nil
}
