package memory

import (
	"sync"

	"github.com/ratelimitd/ratelimitd/internal/store"
	"github.com/ratelimitd/ratelimitd/internal/window"
)

// Estimated sizes, bytes: a subject with its place in the map, a log, and an override beside its value.
const (
	subjectBytes  = 192
	logBytes      = 96
	overrideBytes = 48
)

// override is a subject's own plan or limits, as they were set.
type override struct {
	version int64
	value   string
}

// subject is one subject's usage.
type subject struct {
	key      key
	logs     [3]*window.Log // by unit, from store.Requests
	override *override
	holding  *holding // nil if it keeps nothing for holds
	bytes    int64
	order    *order   // that it stands in; nil for none
	newer    *subject // in that order
	older    *subject
}

// order is subjects in the order of use.
type order struct {
	newest *subject
	oldest *subject
	hand   *subject // where the sweep goes on, towards the newer ones; nil for the oldest
}

// shard is a part of the subjects under one lock.
type shard struct {
	mu       sync.Mutex
	subjects map[key]*subject
	holds    map[holdKey]*hold
	ended    endings  // of the holds
	usage    order    // the subjects with logs
	bare     order    // those without that keep something for holds
	calls    uint32   // since the store began
	born     int      // subjects made since the last sweep
	_        [64]byte // apart from the next shard's lock
}

// version is that of the subject's override; 0 if there is none.
func (sub *subject) version() int64 {
	if o := sub.ownLimits(); o != nil {
		return o.version
	}
	return 0
}

// ownLimits is the subject's override; nil if there is none.
func (sub *subject) ownLimits() *override {
	if sub == nil {
		return nil
	}
	return sub.override
}

// log is the subject's log of a unit; nil if there is none.
func (sub *subject) log(u store.Unit) *window.Log {
	if sub == nil || u == store.Concurrent {
		return nil
	}
	return sub.logs[u-store.Requests]
}

// keptSize estimates what of the subject stays when its usage is evicted.
func (sub *subject) keptSize() int64 {
	if sub.override == nil {
		return 0
	}
	return int64(subjectBytes + len(sub.key.kind) + len(sub.key.id) + overrideBytes + len(sub.override.value))
}

// size estimates what the subject takes.
func (sub *subject) size() int64 {
	all := sub.keptSize()
	if all == 0 {
		all = int64(subjectBytes + len(sub.key.kind) + len(sub.key.id))
	}
	for _, l := range sub.logs {
		if l != nil {
			all += logBytes + int64(l.Bytes())
		}
	}
	if sub.holding != nil {
		all += sub.holding.size()
	}
	return all
}

// hasLogs tells whether the subject has a log.
func (sub *subject) hasLogs() bool { return sub.logs != [3]*window.Log{} }

// idle tells whether no hit of the subject counts any more, and no hold can come back to it.
func (sub *subject) idle(now int64) bool {
	if !sub.holding.idle() {
		return false
	}
	for _, l := range sub.logs {
		if l != nil && !l.Idle(now) {
			return false
		}
	}
	return true
}

// touch makes a subject the one used last.
func (sh *shard) touch(sub *subject) {
	o := &sh.usage
	if !sub.hasLogs() {
		o = &sh.bare
	}
	if o.newest == sub {
		return
	}
	if o.hand == sub {
		o.hand = nil // all idle ones are older than one in use: begin anew, or the sweep would chase those in use
	}
	sub.unlink()
	sub.order = o
	sub.older = o.newest
	if o.newest != nil {
		o.newest.newer = sub
	}
	o.newest = sub
	if o.oldest == nil {
		o.oldest = sub
	}
}

// unlink takes a subject out of the order that it stands in.
func (sub *subject) unlink() {
	o := sub.order
	if o == nil {
		return
	}
	if o.hand == sub {
		o.hand = sub.newer
	}
	if sub.newer != nil {
		sub.newer.older = sub.older
	} else {
		o.newest = sub.older
	}
	if sub.older != nil {
		sub.older.newer = sub.newer
	} else {
		o.oldest = sub.newer
	}
	sub.newer, sub.older, sub.order = nil, nil, nil
}
