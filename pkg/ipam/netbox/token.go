// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/bm-ccm/bm-ccm/pkg/ipam"
)

// tokenFile reads an API token again when its file changes, so that a rotation
// needs no restart.
type tokenFile struct {
	path string

	mu      sync.Mutex
	value   string
	changed time.Time
	size    int64
}

// header returns the Authorization header of the token. While the file cannot
// be read, as in the middle of a rotation, the last token stays in use.
func (t *tokenFile) header() (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.refresh(); err != nil && t.value == "" {
		return "", &ipam.ConfigError{Problem: fmt.Sprintf("netbox.tokenFile: %v", err)}
	}
	// Version 2 tokens (NetBox 4.5) begin with nbt_.
	if strings.HasPrefix(t.value, "nbt_") {
		return "Bearer " + t.value, nil
	}
	return "Token " + t.value, nil
}

func (t *tokenFile) refresh() error {
	info, err := os.Stat(t.path)
	if err != nil {
		return err
	}
	if t.value != "" && info.ModTime().Equal(t.changed) && info.Size() == t.size {
		return nil
	}
	content, err := os.ReadFile(t.path)
	if err != nil {
		return err
	}
	value := strings.TrimSpace(string(content))
	if value == "" || strings.ContainsAny(value, " \t\r\n") {
		return fmt.Errorf("%s must hold one NetBox API token and nothing else", t.path)
	}
	t.value, t.changed, t.size = value, info.ModTime(), info.Size()
	return nil
}
