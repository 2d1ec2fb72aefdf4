package engine

import (
	"fmt"
	"hash/maphash"
	"sync"

	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/store"
)

// Bounds of the overrides that are kept. One that is not kept costs its subject's next call a second trip.
const (
	overrideShards = 64
	overrideBytes  = 256 << 10 // per shard
	overrideCost   = 1 << 10   // bytes of one beside its subject's id and its value
)

// override is a subject's stored override as this process knows it.
type override struct {
	version  int64
	value    string
	snapshot *policy.Snapshot // what it was parsed with
	parsed   *policy.Override // nil if the value does not parse: the subject then has its plan's limits
}

type overrideShard struct {
	mu        sync.RWMutex
	bytes     int
	bySubject map[store.Subject]override
}

// overrides keeps what the store has said about subjects' overrides. It may be out of date: the store compares the version
// with each decision and says so.
type overrides struct {
	seed   maphash.Seed
	shards [overrideShards]overrideShard
}

func newOverrides() *overrides {
	o := &overrides{seed: maphash.MakeSeed()}
	for i := range o.shards {
		o.shards[i].bySubject = make(map[store.Subject]override)
	}
	return o
}

func (o *overrides) shard(s store.Subject) *overrideShard {
	return &o.shards[maphash.String(o.seed, s.ID)%overrideShards]
}

// known returns the version and the parsed form of a subject's override; 0 and nil if none is known.
func (o *overrides) known(snapshot *policy.Snapshot, s store.Subject) (int64, *policy.Override) {
	shard := o.shard(s)
	shard.mu.RLock()
	if len(shard.bySubject) == 0 {
		shard.mu.RUnlock()
		return 0, nil
	}
	found, ok := shard.bySubject[s]
	shard.mu.RUnlock()
	if !ok {
		return 0, nil
	}
	if found.snapshot != snapshot {
		_ = o.learn(snapshot, s, found.version, found.value) // was said when it was learned
		shard.mu.RLock()
		found = shard.bySubject[s]
		shard.mu.RUnlock()
	}
	return found.version, found.parsed
}

// learn takes note of a subject's override; version 0 is none. It errs when the value does not parse.
func (o *overrides) learn(snapshot *policy.Snapshot, s store.Subject, version int64, value string) error {
	shard := o.shard(s)
	if version == 0 {
		shard.mu.Lock()
		shard.drop(s)
		shard.mu.Unlock()
		return nil
	}
	parsed, err := snapshot.ParseOverride(s.Kind, value)
	if err != nil {
		parsed = nil
		err = fmt.Errorf("the stored override of a subject of tier %q: %w", s.Kind, err)
	}
	shard.mu.Lock()
	defer shard.mu.Unlock()
	shard.drop(s)
	size := sizeOf(s, value)
	for other := range shard.bySubject {
		if shard.bytes+size <= overrideBytes {
			break
		}
		shard.drop(other)
	}
	shard.bytes += size
	shard.bySubject[s] = override{version: version, value: value, snapshot: snapshot, parsed: parsed}
	return err
}

func sizeOf(s store.Subject, value string) int {
	return len(s.Kind) + len(s.ID) + len(value) + overrideCost
}

// drop forgets a subject's override. The shard is locked.
func (o *overrideShard) drop(s store.Subject) {
	if old, ok := o.bySubject[s]; ok {
		o.bytes -= sizeOf(s, old.value)
		delete(o.bySubject, s)
	}
}
