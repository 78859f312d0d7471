// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package procrt

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// maxLine is where a line is split, as containerd does.
const maxLine = 16 << 10

// logFile is a container's log in the CRI format, shared by its two streams.
type logFile struct {
	mu sync.Mutex
	w  io.WriteCloser
}

func openLog(path string) (*logFile, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
	if err != nil {
		return nil, fmt.Errorf("opening the container's log: %w", err)
	}
	return &logFile{w: f}, nil
}

func (l *logFile) stream(name string) *logStream { return &logStream{log: l, name: name} }

func (l *logFile) line(stream, tag string, text []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := fmt.Fprintf(l.w, "%s %s %s %s\n", time.Now().Format(time.RFC3339Nano), stream, tag, text)
	return err
}

func (l *logFile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Close()
}

// logStream turns what a process writes into lines of a logFile. It is used
// by one goroutine.
type logStream struct {
	log  *logFile
	name string
	buf  []byte
}

func (s *logStream) Write(p []byte) (int, error) {
	s.buf = append(s.buf, p...)
	for {
		line, rest, found := bytes.Cut(s.buf, []byte("\n"))
		tag := "F"
		if !found || len(line) > maxLine {
			if len(s.buf) <= maxLine {
				return len(p), nil
			}
			line, rest, tag = s.buf[:maxLine], s.buf[maxLine:], "P"
		}
		if err := s.log.line(s.name, tag, line); err != nil {
			return 0, fmt.Errorf("writing the container's log: %w", err)
		}
		s.buf = append([]byte(nil), rest...)
	}
}

// flush writes a last line that had no newline.
func (s *logStream) flush() error {
	if len(s.buf) == 0 {
		return nil
	}
	defer func() { s.buf = nil }()
	return s.log.line(s.name, "F", s.buf)
}
