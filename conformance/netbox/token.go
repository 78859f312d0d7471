// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bm-ccm/bm-ccm/pkg/ipam/netbox/provision"
	"github.com/bm-ccm/bm-ccm/pkg/netbox"
	"github.com/bm-ccm/bm-ccm/pkg/netbox/schema"
)

// setUp does what "bm-ccm netbox init" does, so that all that runs on a seeded
// NetBox runs on what an administrator gets.
func (s *seeder) setUp(ctx context.Context, spec Spec) error {
	c, err := netbox.NewClient(netbox.Options{URL: s.base, Token: s.rest.token, Transport: s.client.Transport, Timeout: time.Minute})
	if err != nil {
		return err
	}
	plan := schema.Plan{CustomFields: schema.Fields()}
	if spec.Cluster != "" {
		plan = schema.Access{Cluster: spec.Cluster, ReservedTenants: spec.ReservedTenants}.Plan()
	}
	var wrong []error
	user, err := provision.Init(ctx, c, plan, func(step provision.Step) {
		if step.Outcome == provision.StepWrong {
			wrong = append(wrong, fmt.Errorf("%s: %s", step.What, step.Detail))
		}
	})
	if err = errors.Join(append(wrong, err)...); err != nil || user == 0 {
		return err
	}
	if spec.KnownToken != "" {
		known, err := provision.HasToken(ctx, c, user, spec.KnownToken)
		if err != nil {
			return err
		}
		if known {
			s.out.Token = spec.KnownToken
			return nil
		}
	}
	s.out.Token, err = provision.NewToken(ctx, c, user)
	return err
}
