// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// viewed is what a cluster's token may read.
var viewed = []string{
	"ipam.prefix", "ipam.iprange", "ipam.ipaddress", "ipam.vrf", "ipam.role", "tenancy.tenant", "extras.tag",
	"extras.customfield", "dcim.device", "dcim.interface", "dcim.site", "dcim.region", "dcim.location", "dcim.rack",
	"dcim.devicetype", "virtualization.virtualmachine", "virtualization.vminterface", "virtualization.cluster",
}

// token makes the cluster's user, its permissions and its token.
func (s *seeder) token(ctx context.Context, spec Spec) error {
	if spec.Cluster == "" {
		return nil
	}
	name := "bm-ccm-" + spec.Cluster
	// Nobody logs in with the password; NetBox wants letters and a digit.
	user, err := s.ensure(ctx, "/api/users/users/", "username", object{"username": name, "password": "aA1" + rand.Text() + rand.Text()})
	if err != nil {
		return err
	}
	view := object{"name": name + " view", "object_types": viewed, "actions": []string{"view"}}
	write := object{
		"name": name + " addresses", "object_types": []string{"ipam.ipaddress"}, "actions": []string{"add", "change", "delete"},
		"constraints": object{"custom_field_data__k8s_cluster": spec.Cluster},
	}
	for _, permission := range []object{view, write} {
		permission["users"], permission["enabled"] = []int64{user.id()}, true
		if _, err := s.ensure(ctx, "/api/users/permissions/", "name", permission); err != nil {
			return err
		}
	}
	if s.out.Token, err = s.knownToken(ctx, spec.KnownToken); s.out.Token != "" || err != nil {
		return err
	}
	s.out.Token, err = s.newToken(ctx, user.id())
	return err
}

// knownToken returns a token if NetBox still takes it.
func (s *seeder) knownToken(ctx context.Context, token string) (string, error) {
	if token == "" {
		return "", nil
	}
	with := &rest{base: s.base, token: token, client: s.client}
	err := with.do(ctx, http.MethodGet, "/api/ipam/prefixes/?limit=1", nil, nil)
	var refused *StatusError
	if errors.As(err, &refused) && refused.Code == http.StatusForbidden {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return token, nil
}

func (s *seeder) newToken(ctx context.Context, user int64) (string, error) {
	var made object
	body := object{"user": user, "version": 2, "write_enabled": true, "description": "bm-ccm"}
	if err := s.do(ctx, http.MethodPost, "/api/users/tokens/", body, &made); err != nil {
		return "", err
	}
	token := made.text("token")
	if token == "" {
		return "", fmt.Errorf("NetBox made token %d and did not tell it", made.id())
	}
	// Version 2 is sent with its key in front.
	if key := made.text("key"); key != "" && !strings.HasPrefix(token, "nbt_") && made["version"] == float64(2) {
		token = "nbt_" + key + "." + token
	}
	return token, nil
}
