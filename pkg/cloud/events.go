// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
)

// Reasons of Events on a Service. The first three are upstream's.
const (
	// reasonEnsuring is never written: the next Event says how it went.
	reasonEnsuring = "EnsuringLoadBalancer"
	// reasonEnsured (Normal) says which addresses the Service has, from which
	// pools, by which class. It is written when that has changed.
	reasonEnsured = "EnsuredLoadBalancer"
	// reasonFailed (Warning) says why the Service waits, for its first address or
	// for a change of it, and what to do. An address that it has stays.
	reasonFailed = "SyncLoadBalancerFailed"
	// reasonNotRetained (Warning) says that bm-ccm.io/retain has no effect on an
	// address, because its pool lists its addresses itself.
	reasonNotRetained = "NotRetained"
)

// Reasons of Events on a Node.
const (
	// reasonMachineNotFound (Warning) says why NetBox does not give the machine of
	// this Node: it has none of this name, or several. Correct the name there, or
	// set the Node's spec.providerID. Until then the Node keeps its taint.
	reasonMachineNotFound = "MachineNotFound"
	// reasonNodeAddressMismatch (Warning) says that kubelet's --node-ip is not among
	// the addresses that NetBox has for the machine. Correct one of the two.
	reasonNodeAddressMismatch = "NodeAddressMismatch"
)

// outcomes remembers how the last sync of each Service ended, so that the
// Events about it can say so, or stay away when there is nothing to say. The
// upstream controller writes two Events whenever it looks at a Service: after a
// restart that would be two writes for each Service of the cluster.
type outcomes struct {
	mu sync.Mutex
	// texts has what the last sync of a Service did; "" for nothing.
	texts map[types.UID]string
	// retains has whether a Service asked for its address to be retained.
	retains map[types.UID]bool
}

func newOutcomes() *outcomes {
	return &outcomes{texts: map[types.UID]string{}, retains: map[types.UID]bool{}}
}

// set notes what the last sync of a Service did. The Event is written after it, by
// a goroutine of upstream's recorder.
func (o *outcomes) set(uid types.UID, text string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.texts[uid] = text
}

func (o *outcomes) get(uid types.UID) (text string, known bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	text, known = o.texts[uid]
	return text, known
}

// forget drops what is known of a Service that is gone; its UID never comes back.
func (o *outcomes) forget(uid types.UID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.texts, uid)
	delete(o.retains, uid)
}

// noteRetain remembers whether a Service asks for its address to be retained,
// and returns true when it has begun to since it was looked at last.
func (o *outcomes) noteRetain(uid types.UID, retain bool) (news bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	before, known := o.retains[uid]
	o.retains[uid] = retain
	return known && retain && !before
}

// edit returns the Event to write instead of e, or nil for none.
func (o *outcomes) edit(e *corev1.Event) *corev1.Event {
	switch e.Reason {
	case reasonEnsuring:
		return nil // the next Event tells how it went
	case reasonEnsured:
		text, known := o.get(e.InvolvedObject.UID)
		if !known {
			return e
		}
		if text == "" {
			return nil
		}
		e = e.DeepCopy()
		e.Message = text
	}
	return e
}

// quietClient is the client that the upstream service controller writes its
// Events with.
type quietClient struct {
	kubernetes.Interface
	outcomes *outcomes
}

func (c quietClient) CoreV1() typedcorev1.CoreV1Interface {
	return quietCore{c.Interface.CoreV1(), c.outcomes}
}

type quietCore struct {
	typedcorev1.CoreV1Interface
	outcomes *outcomes
}

func (c quietCore) Events(namespace string) typedcorev1.EventInterface {
	return quietEvents{c.CoreV1Interface.Events(namespace), c.outcomes}
}

type quietEvents struct {
	typedcorev1.EventInterface
	outcomes *outcomes
}

func (q quietEvents) CreateWithEventNamespaceWithContext(ctx context.Context, e *corev1.Event) (*corev1.Event, error) {
	edited := q.outcomes.edit(e)
	if edited == nil {
		return e, nil
	}
	return q.EventInterface.CreateWithEventNamespaceWithContext(ctx, edited)
}

func (q quietEvents) PatchWithEventNamespaceWithContext(ctx context.Context, e *corev1.Event, data []byte) (*corev1.Event, error) {
	if q.outcomes.edit(e) == nil {
		return e, nil
	}
	return q.EventInterface.PatchWithEventNamespaceWithContext(ctx, e, data)
}

// CreateWithEventNamespace is what client-go's sink calls.
func (q quietEvents) CreateWithEventNamespace(e *corev1.Event) (*corev1.Event, error) {
	return q.CreateWithEventNamespaceWithContext(context.Background(), e)
}

// PatchWithEventNamespace is what client-go's sink calls.
func (q quietEvents) PatchWithEventNamespace(e *corev1.Event, data []byte) (*corev1.Event, error) {
	return q.PatchWithEventNamespaceWithContext(context.Background(), e, data)
}
