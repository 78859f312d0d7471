// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"net"
	"os"
)

const listenerFD = 3

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: forward ADDRESS:PORT (with a listening socket as file descriptor 3)")
		os.Exit(2)
	}
	if err := serve(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "forward:", err)
		os.Exit(1)
	}
}

func serve(target string) error {
	l, err := net.FileListener(os.NewFile(listenerFD, "listener"))
	if err != nil {
		return fmt.Errorf("using file descriptor %d: %w", listenerFD, err)
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return fmt.Errorf("accepting: %w", err)
		}
		go func() {
			if err := join(c, target); err != nil {
				fmt.Fprintln(os.Stderr, "forward:", err)
			}
		}()
	}
}

// join copies both ways until both ends are done.
func join(client net.Conn, target string) error {
	defer client.Close()
	server, err := net.Dial("tcp", target)
	if err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	defer server.Close()
	done := make(chan struct{}, 2)
	go half(server, client, done)
	go half(client, server, done)
	<-done
	<-done
	return nil
}

// half copies one way and passes the end of the stream on. That a side reset
// its connection is nobody's error here, so both results are dropped.
func half(to, from net.Conn, done chan<- struct{}) {
	_, _ = io.Copy(to, from)
	if tcp, ok := to.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
	done <- struct{}{}
}
