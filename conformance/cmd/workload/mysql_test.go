// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
)

// TestGreet plays a client: greeting, login, refusal.
func TestGreet(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	served := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			err = greet(c, identity{pod: "db-0", node: "n1"})
		}
		served <- err
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	hello := payload(t, c, 0)
	if want := []byte("\x0a8.4.0-db-0@n1\x00"); !bytes.HasPrefix(hello, want) {
		t.Errorf("greeting begins %q, want %q", hello[:min(len(hello), 20)], want)
	}
	if !bytes.HasSuffix(hello, []byte("mysql_native_password\x00")) {
		t.Errorf("greeting ends without an authentication plugin: %q", hello)
	}
	if _, err := c.Write(packet(1, make([]byte, 300))); err != nil {
		t.Fatal(err)
	}
	if got := string(payload(t, c, 2)); !strings.HasSuffix(got, "#28000Access denied for client 127.0.0.1") || got[0] != 0xff {
		t.Errorf("refusal: %q", got)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// payload reads one packet with the sequence number.
func payload(t *testing.T, r io.Reader, seq byte) []byte {
	t.Helper()
	head := make([]byte, 4)
	if _, err := io.ReadFull(r, head); err != nil {
		t.Fatal(err)
	}
	if head[3] != seq {
		t.Errorf("sequence number %d, want %d", head[3], seq)
	}
	body := make([]byte, int(head[0])|int(head[1])<<8|int(head[2])<<16)
	if _, err := io.ReadFull(r, body); err != nil {
		t.Fatal(err)
	}
	return body
}
