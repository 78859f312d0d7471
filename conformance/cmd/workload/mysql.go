// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

const mysqlAddr = ":3306"

// runMySQL serves until ctx ends.
func runMySQL(ctx context.Context, id identity) error {
	l, err := net.Listen("tcp", mysqlAddr)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	context.AfterFunc(ctx, func() { _ = l.Close() }) // ends Accept
	fmt.Printf("mysql %s on %s serves %s\n", id.pod, id.node, mysqlAddr)
	for ctx.Err() == nil {
		c, err := l.Accept()
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("accepting: %w", err)
		}
		if err != nil {
			continue // asked to stop
		}
		go func() {
			if err := greet(c, id); err != nil && !errors.Is(err, io.EOF) {
				fmt.Fprintln(os.Stderr, "mysql:", c.RemoteAddr(), err)
			}
		}()
	}
	return nil
}

// greet plays a MySQL server up to the point where it refuses the user.
func greet(c net.Conn, id identity) error {
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return fmt.Errorf("setting the deadline: %w", err)
	}
	hello, err := handshake("8.4.0-" + id.pod + "@" + id.node)
	if err != nil {
		return err
	}
	if _, err := c.Write(packet(0, hello)); err != nil {
		return fmt.Errorf("greeting: %w", err)
	}
	seq, err := readPacket(c)
	if err != nil {
		return fmt.Errorf("reading the login: %w", err)
	}
	client, _, err := net.SplitHostPort(c.RemoteAddr().String())
	if err != nil {
		return fmt.Errorf("reading the client's address: %w", err)
	}
	_, err = c.Write(packet(seq+1, accessDenied(client)))
	return err
}

// Capability flags of the handshake.
const (
	clientProtocol41       = 0x00000200
	clientSecureConnection = 0x00008000
	clientPluginAuth       = 0x00080000
)

// handshake is the payload of an initial handshake packet, protocol version 10.
func handshake(version string) ([]byte, error) {
	salt := make([]byte, 20)
	if _, err := rand.Read(salt); err != nil {
		return nil, fmt.Errorf("making the salt: %w", err)
	}
	for i := range salt {
		salt[i] = salt[i]&0x7f | 0x01 // no zero: some of it is sent zero-terminated
	}
	const flags = clientProtocol41 | clientSecureConnection | clientPluginAuth
	b := append([]byte{10}, version...)
	b = append(b, 0)
	b = binary.LittleEndian.AppendUint32(b, 1) // connection id
	b = append(b, salt[:8]...)
	b = append(b, 0)
	b = binary.LittleEndian.AppendUint16(b, flags&0xffff)
	b = append(b, 0xff)                        // character set utf8mb4
	b = binary.LittleEndian.AppendUint16(b, 2) // status: autocommit
	b = binary.LittleEndian.AppendUint16(b, flags>>16)
	b = append(b, byte(len(salt)+1))
	b = append(b, make([]byte, 10)...) // reserved
	b = append(b, salt[8:]...)
	b = append(b, 0)
	return append(append(b, "mysql_native_password"...), 0), nil
}

// accessDenied is the payload of ERR packet 1045.
func accessDenied(client string) []byte {
	b := []byte{0xff}
	b = binary.LittleEndian.AppendUint16(b, 1045)
	b = append(b, "#28000"...)
	return append(b, fmt.Sprintf("Access denied for client %s", client)...)
}

// packet frames a payload: three bytes of length and a sequence number.
func packet(seq byte, payload []byte) []byte {
	n := len(payload)
	return append([]byte{byte(n), byte(n >> 8), byte(n >> 16), seq}, payload...)
}

// readPacket reads one packet and returns its sequence number.
func readPacket(r io.Reader) (byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, err
	}
	n := int64(head[0]) | int64(head[1])<<8 | int64(head[2])<<16
	if _, err := io.CopyN(io.Discard, r, n); err != nil {
		return 0, err
	}
	return head[3], nil
}
