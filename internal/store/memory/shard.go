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
	bytes    int64
	linked   bool
	newer    *subject // in the order of use
	older    *subject
}

// shard is a part of the subjects under one lock.
type shard struct {
	mu       sync.Mutex
	subjects map[key]*subject
	newest   *subject // in use; only subjects with logs are in this order
	oldest   *subject
	hand     *subject // where the sweep goes on, towards the newer ones; nil for the oldest
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
	if sub == nil {
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
	return all
}

// idle tells whether no hit of the subject counts any more.
func (sub *subject) idle(now int64) bool {
	for _, l := range sub.logs {
		if l != nil && !l.Idle(now) {
			return false
		}
	}
	return true
}

// touch makes a subject the one used last.
func (sh *shard) touch(sub *subject) {
	if sh.newest == sub {
		return
	}
	if sh.hand == sub {
		sh.hand = nil // all idle ones are older than one in use: begin anew, or the sweep would chase those in use
	}
	sh.unlink(sub)
	sub.linked = true
	sub.older = sh.newest
	if sh.newest != nil {
		sh.newest.newer = sub
	}
	sh.newest = sub
	if sh.oldest == nil {
		sh.oldest = sub
	}
}

// unlink takes a subject out of the order of use.
func (sh *shard) unlink(sub *subject) {
	if !sub.linked {
		return
	}
	if sh.hand == sub {
		sh.hand = sub.newer
	}
	if sub.newer != nil {
		sub.newer.older = sub.older
	} else {
		sh.newest = sub.older
	}
	if sub.older != nil {
		sub.older.newer = sub.newer
	} else {
		sh.oldest = sub.newer
	}
	sub.newer, sub.older, sub.linked = nil, nil, false
}
