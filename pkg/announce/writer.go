// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package announce

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/klog/v2"

	"github.com/bm-ccm/bm-ccm/pkg/api/v1alpha1"
	"github.com/bm-ccm/bm-ccm/pkg/trigger"
)

const (
	// writeInterval and writeBurst limit the writes of one node to the API server.
	// A thousand nodes write at most 500 times a second between them while
	// everything changes, and a first change is visible at once.
	writeInterval = 2 * time.Second
	writeBurst    = 3
	// writeTimeout bounds one round of reading and writing. An API server that
	// does not answer within it is taken to be away.
	writeTimeout = 10 * time.Second
	// writeRetryMax bounds the wait after failures, which doubles each time.
	writeRetryMax = time.Minute
)

// announcements is what the writer needs of the API. There is no Watch: this agent
// is the only one that writes its object, and a conflict makes it read again.
type announcements interface {
	Get(ctx context.Context, name string, o metav1.GetOptions) (*v1alpha1.NodeAnnouncement, error)
	Create(ctx context.Context, a *v1alpha1.NodeAnnouncement, o metav1.CreateOptions) (*v1alpha1.NodeAnnouncement, error)
	UpdateStatus(ctx context.Context, a *v1alpha1.NodeAnnouncement, o metav1.UpdateOptions) (*v1alpha1.NodeAnnouncement, error)
}

// writer keeps the NodeAnnouncement of this node as it should be. It writes
// only what changed, and not often. It runs beside the main loop, which must not
// wait for an API server: announcing comes first, reporting when it can.
type writer struct {
	node    string
	api     announcements
	limit   *rate.Limiter
	metrics *metrics

	mu      sync.Mutex
	wanted  *v1alpha1.NodeAnnouncementStatus
	owner   types.UID // of the Node
	changed *trigger.Trigger

	current *v1alpha1.NodeAnnouncement // as last read or written; nil if unknown
}

func newWriter(node string, api announcements, m *metrics) *writer {
	return &writer{
		node: node, api: api, metrics: m, changed: trigger.New(),
		limit: rate.NewLimiter(rate.Every(writeInterval), writeBurst),
	}
}

// set says what the status should be, and the UID of the Node that owns it.
func (w *writer) set(owner types.UID, st v1alpha1.NodeAnnouncementStatus) {
	w.mu.Lock()
	w.wanted, w.owner = &st, owner
	w.mu.Unlock()
	w.changed.Fire()
}

// latest returns what set was called with last. A status that was replaced before
// it was written is never written.
func (w *writer) latest() (types.UID, *v1alpha1.NodeAnnouncementStatus) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.owner, w.wanted
}

// run writes until the context ends. After a failure it tries again by itself,
// since nothing may change for hours.
func (w *writer) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.changed.C():
		}
		backoff := wait.Backoff{Duration: writeInterval, Factor: 2, Cap: writeRetryMax, Steps: math.MaxInt}
		for err := w.write(ctx); err != nil && ctx.Err() == nil; err = w.write(ctx) {
			retry := backoff.Step()
			klog.FromContext(ctx).V(1).Info("Could not write the NodeAnnouncement, will try again", "err", err, "in", retry)
			if !sleep(ctx, retry) {
				return
			}
		}
	}
}

// sleep waits, and reports whether it was to the end.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// write makes the object in the API fit, if it does not.
func (w *writer) write(ctx context.Context) error {
	if owner, st := w.latest(); st == nil || owner == "" || w.upToDate(*st) {
		return nil
	}
	if err := w.limit.Wait(ctx); err != nil {
		return fmt.Errorf("waiting to write NodeAnnouncement %s: %w", w.node, err)
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	// What is wanted may have changed while the limiter held us.
	owner, st := w.latest()
	if err := w.load(ctx, owner); err != nil {
		return err
	}
	if w.upToDate(*st) {
		return nil
	}
	next := w.current.DeepCopy()
	next.Status = carryOver(w.current.Status, *st.DeepCopy())
	written, err := w.api.UpdateStatus(ctx, next, metav1.UpdateOptions{})
	w.metrics.writes.WithLabelValues(result(err)).Inc()
	if err != nil {
		// Whatever went wrong, look at the object again next time.
		w.current = nil
		return fmt.Errorf("writing the status of NodeAnnouncement %s: %w", w.node, err)
	}
	w.current = written
	return nil
}

// upToDate compares with what was last read or written, not with the API: that is
// why a status at rest costs no request at all.
func (w *writer) upToDate(st v1alpha1.NodeAnnouncementStatus) bool {
	return w.current != nil && sameStatus(w.current.Status, carryOver(w.current.Status, *st.DeepCopy()))
}

// load reads the object, or creates it as a dependent of the Node, so that it
// goes when the Node goes.
func (w *writer) load(ctx context.Context, owner types.UID) error {
	if w.current != nil {
		return nil
	}
	got, err := w.api.Get(ctx, w.node, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		got, err = w.api.Create(ctx, &v1alpha1.NodeAnnouncement{ObjectMeta: metav1.ObjectMeta{
			Name: w.node,
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: corev1.SchemeGroupVersion.String(), Kind: "Node", Name: w.node, UID: owner,
			}},
		}}, metav1.CreateOptions{})
	}
	if err != nil {
		return fmt.Errorf("reading NodeAnnouncement %s: %w", w.node, err)
	}
	w.current = got
	return nil
}
