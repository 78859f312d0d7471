// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package provision

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/bm-ccm/bm-ccm/pkg/netbox"
)

// tokensPath is where the REST API lists tokens.
const tokensPath = "users/tokens/" //nolint:gosec // a path, no token

// tokenObject is a token as NetBox has it. The token itself is there only in the
// answer to its creation; of version 1 NetBox may be set up to show it as the key.
type tokenObject struct {
	netbox.ObjectID
	Display   string          `json:"display"`
	Version   int             `json:"version"`
	PublicKey string          `json:"key"`
	Token     string          `json:"token"`
	User      netbox.ObjectID `json:"user"`
}

// HasToken reports whether NetBox has a token for a user and takes this one for
// it. An empty token stands for any. It is asked with the administrator's token: to
// try the other one would say nothing of whose it is before NetBox 4.5.
func HasToken(ctx context.Context, client *netbox.Client, user int64, token string) (bool, error) {
	query := url.Values{"user_id": {strconv.FormatInt(user, 10)}}
	found, err := netbox.FindOne(ctx, client, tokensPath, "the user's tokens", query, func(t tokenObject) bool {
		return t.User.ID == user && (token == "" || t.looksLike(token))
	})
	return found != nil, err
}

// looksLike compares what NetBox shows of a token: the key, which is public, of
// version 2, the last characters of version 1.
func (t tokenObject) looksLike(token string) bool {
	if rest, ok := strings.CutPrefix(token, netbox.V2TokenPrefix); ok {
		key, _, _ := strings.Cut(rest, ".")
		return t.PublicKey == key
	}
	const shown = 6
	return len(token) > shown && (strings.HasSuffix(t.Display, token[len(token)-shown:]) || t.PublicKey == token)
}

// NewToken creates a token for a user: of version 2 where the server has it and
// is set up for it. It never expires: a controller that loses its token hands out
// no address, and an administrator revokes it in NetBox.
func NewToken(ctx context.Context, client *netbox.Client, user int64) (token string, err error) {
	c := api{client}
	defer func() { err = needsAdministrator(err) }()
	text, err := client.Version(ctx)
	if err != nil {
		return "", err
	}
	body := map[string]any{"user": user, "write_enabled": true, "description": "bm-ccm"}
	if !netbox.ParseRelease(text).AtLeast(netbox.V2Tokens) {
		// Before 4.5 NetBox keeps to itself what it makes up.
		random := make([]byte, 20)
		_, _ = rand.Read(random) // never fails
		key := hex.EncodeToString(random)
		body["key"] = key
		_, err := c.createToken(ctx, body)
		return key, err
	}
	body["version"] = 2 // version 1 goes away in NetBox 5.0
	made, err := c.createToken(ctx, body)
	if netbox.AnswerSays(err, "API_TOKEN_PEPPERS") { // a setting that version 2 needs
		body["version"] = 1
		made, err = c.createToken(ctx, body)
	}
	if err != nil {
		return "", err
	}
	if made.Token == "" {
		return "", fmt.Errorf("NetBox made token %d and did not show it: create one in its web interface", made.ID)
	}
	// NetBox shows the secret alone, or the whole token, depending on its release.
	if made.Version == 2 && !strings.HasPrefix(made.Token, netbox.V2TokenPrefix) {
		return netbox.V2TokenPrefix + made.PublicKey + "." + made.Token, nil
	}
	return made.Token, nil
}

// createToken creates a token and returns what NetBox shows of it, once.
func (c api) createToken(ctx context.Context, body map[string]any) (tokenObject, error) {
	var made tokenObject
	err := c.write(ctx, http.MethodPost, tokensPath, "creating a token", body, &made)
	return made, err
}
