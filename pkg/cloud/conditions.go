// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/cloud/drift"
	"github.com/bm-ccm/bm-ccm/pkg/cloud/service"
	"github.com/bm-ccm/bm-ccm/pkg/ipam"
	"github.com/bm-ccm/bm-ccm/pkg/trigger"
)

// The reasons of the conditions Conflict and AddressConflict that are not kinds
// of findings.
const (
	// reasonMoved: NetBox gives the Service another address than it has. Set the
	// annotation bm-ccm.io/addresses, or take the claim back in NetBox.
	reasonMoved = "MovedInNetBox"
	// reasonResolved: what was wrong before has been set right.
	reasonResolved = "Resolved"
)

// maxConditionMessage keeps a condition readable; the API server takes 32768.
const maxConditionMessage = 1024

// conditions keeps the condition AddressConflict of Services. Two parties speak:
// each sync of a Service says whether the record gives it another address, and
// package drift says what is wrong with the records. It writes what has changed
// only, so that nothing is written at rest or after a restart.
type conditions struct {
	client   kubernetes.Interface
	recorder record.EventRecorder
	// settled is fired when a Service and its record agree again: what was found
	// wrong with the records may be over with it.
	settled *trigger.Trigger

	// writing is held by the one who writes: the API server may take two patches
	// in another order than they were sent.
	writing sync.Mutex

	mu sync.Mutex
	// moved and found are what the two parties said last.
	moved map[types.UID]string
	found map[types.UID][]ipam.Finding
	// compared: drift has spoken. Before, no condition of a former process is
	// taken back.
	compared bool
	// written are conditions that the informer may not show yet.
	written map[types.UID]writtenCondition
}

// newConditions returns a keeper that has heard nothing yet: until drift has
// compared for the first time, it takes no condition back.
func newConditions(client kubernetes.Interface, recorder record.EventRecorder, settled *trigger.Trigger) *conditions {
	return &conditions{
		client: client, recorder: recorder, settled: settled,
		moved: map[types.UID]string{}, written: map[types.UID]writtenCondition{},
	}
}

// claimed is told what a sync of a Service said; "" is that all is well.
func (c *conditions) claimed(ctx context.Context, svc *corev1.Service, message string) {
	c.mu.Lock()
	_, before := c.moved[svc.UID]
	if message == "" {
		delete(c.moved, svc.UID)
	} else {
		c.moved[svc.UID] = message
	}
	c.mu.Unlock()
	c.write(ctx, svc)
	if before && message == "" {
		c.settled.Fire()
	}
}

// report is told what drift found wrong, by Service.
func (c *conditions) report(ctx context.Context, services []*corev1.Service, found map[types.UID][]ipam.Finding) {
	c.mu.Lock()
	c.found, c.compared = found, true
	c.mu.Unlock()
	for _, svc := range services {
		if service.IsServed(svc) {
			c.write(ctx, svc)
		}
	}
}

// conflict returns the reason and message of what is wrong with the address of a
// Service. What the user can settle comes first, then the first finding gives the
// reason. It is called with c.mu held.
func (c *conditions) conflict(uid types.UID) (reason, message string, conflicting bool) {
	if message, ok := c.moved[uid]; ok {
		return reasonMoved, message, true
	}
	found := c.found[uid]
	if len(found) == 0 {
		return "", "", false
	}
	texts := make([]string, len(found))
	for i, f := range found {
		texts[i] = f.Text
	}
	return drift.Reason(found[0].Kind), strings.Join(texts, "; "), true
}

// forget drops what is known of a Service.
func (c *conditions) forget(uid types.UID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.moved, uid)
	delete(c.found, uid)
	delete(c.written, uid)
}

// write brings the condition of a Service up to date.
func (c *conditions) write(ctx context.Context, svc *corev1.Service) {
	if _, ok := c.due(svc); !ok {
		return
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	want, ok := c.due(svc)
	if !ok {
		return
	}
	err := c.patch(ctx, svc, want)
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return // it is gone, or another one has its name
	}
	if err != nil {
		klog.FromContext(ctx).Error(err, "Cannot write the condition of a Service, trying again later", "service", klog.KObj(svc), "condition", want.Type)
		return
	}
	c.wrote(svc, want)
	kind := corev1.EventTypeWarning
	if want.Status == metav1.ConditionFalse {
		kind = corev1.EventTypeNormal
	}
	c.recorder.Event(svc, kind, want.Reason, want.Message)
}

// writtenCondition is what was written and when.
type writtenCondition struct {
	metav1.Condition
	at time.Time
}

// informerLag is how long what was written is believed more than what the
// informer shows.
const informerLag = time.Minute

// wrote remembers a condition until the informer shows it. A second sync within
// that time would write it, and its Event, once more.
func (c *conditions) wrote(svc *corev1.Service, condition metav1.Condition) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.written[svc.UID] = writtenCondition{condition, time.Now()}
}

// current is the condition that a Service has; nil for none. It is called with
// c.mu held.
func (c *conditions) current(svc *corev1.Service) *metav1.Condition {
	shown := meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ConditionAddressConflict)
	w, ok := c.written[svc.UID]
	switch {
	case !ok:
		return shown
	case shown != nil && sameCondition(*shown, w.Condition), time.Since(w.at) > informerLag:
		delete(c.written, svc.UID)
		return shown
	default:
		return &w.Condition
	}
}

// due returns the condition that is to be written; ok is false for none.
func (c *conditions) due(svc *corev1.Service) (want metav1.Condition, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	is := c.current(svc)
	reason, message, conflicting := c.conflict(svc.UID)
	switch {
	case conflicting:
		want = condition(v1alpha1.ConditionAddressConflict, true, reason, truncate(message, maxConditionMessage))
	case is == nil || is.Status == metav1.ConditionFalse || !c.compared:
		return want, false
	default:
		want = condition(v1alpha1.ConditionAddressConflict, false, reasonResolved, "the record and this Service agree")
	}
	if is != nil && sameCondition(*is, want) {
		return want, false
	}
	want.LastTransitionTime = metav1.Now()
	if is != nil && is.Status == want.Status {
		want.LastTransitionTime = is.LastTransitionTime
	}
	return want, true
}

// sameCondition leaves out the times, which differ though nothing has happened.
func sameCondition(a, b metav1.Condition) bool {
	return a.Status == b.Status && a.Reason == b.Reason && a.Message == b.Message
}

// patch writes one condition and nothing else: conditions are merged by type.
func (c *conditions) patch(ctx context.Context, svc *corev1.Service, want metav1.Condition) error {
	data, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": svc.UID},
		"status":   map[string]any{"conditions": []metav1.Condition{want}},
	})
	if err != nil {
		return fmt.Errorf("encoding a condition: %w", err)
	}
	_, err = c.client.CoreV1().Services(svc.Namespace).Patch(ctx, svc.Name, types.StrategicMergePatchType, data, metav1.PatchOptions{}, "status")
	return err
}

// truncate cuts a text off after n characters.
func truncate(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}
