// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// V2TokenPrefix begins the tokens of version 2 (NetBox 4.5).
const V2TokenPrefix = "nbt_"

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
		return "", &ConfigError{Problem: fmt.Sprintf("netbox.tokenFile: %v", err)}
	}
	return authorization(t.value), nil
}

// authorization is the header of a token. NetBox takes each version with its own
// word only.
func authorization(token string) string {
	if strings.HasPrefix(token, V2TokenPrefix) {
		return "Bearer " + token
	}
	return "Token " + token
}

// isV2 reports whether the token is one of version 2.
func (t *tokenFile) isV2() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.HasPrefix(t.value, V2TokenPrefix)
}

// replaced reads the file once more, after NetBox has refused a header. It
// returns the header to try instead, or "" if the file still holds that token.
func (t *tokenFile) replaced(refused string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.changed = time.Time{} // two tokens may have one length and come in one tick of the clock
	if err := t.refresh(); err != nil {
		return ""
	}
	if fresh := authorization(t.value); fresh != refused {
		return fresh
	}
	return ""
}

// refresh reads the file if it looks changed; the caller holds mu. Only with an
// error-free content does it replace the token: half a file is no token.
func (t *tokenFile) refresh() error {
	if t.path == "" {
		return nil // the token was given itself
	}
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
