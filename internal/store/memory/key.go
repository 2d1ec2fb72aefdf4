package memory

import (
	"crypto/sha256"
	"encoding/binary"
	"hash/maphash"
	"strings"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// maxIDBytes is the longest kind or id that is kept as it is.
const maxIDBytes = 96

// key is a subject's name in a shard. Its parts stay apart, so no id can pass for another's.
type key struct {
	kind, id string
	digest   bool // id is the SHA-256 of a kind and id one of which is too long to keep
}

// keyOf returns a subject's key. It shares the subject's memory: clone it to keep it.
func keyOf(s store.Subject) key {
	if len(s.ID) <= maxIDBytes && len(s.Kind) <= maxIDBytes {
		return key{kind: s.Kind, id: s.ID}
	}
	h := sha256.New()
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(s.Kind)))
	h.Write(n[:])
	h.Write([]byte(s.Kind))
	h.Write([]byte(s.ID))
	return key{id: string(h.Sum(nil)), digest: true}
}

// clone returns a key with memory of its own: the subject's may be a small part of a large message.
func (k key) clone() key {
	return key{kind: strings.Clone(k.kind), id: strings.Clone(k.id), digest: k.digest}
}

// isGlobal tells whether a subject is the system as a whole.
func isGlobal(s store.Subject) bool { return s.Kind == "global" && s.ID == "" }

// shardOf returns the index of the shard that a subject lives in.
func (s *Store) shardOf(subject store.Subject, k key) int {
	last := len(s.shards) - 1
	if isGlobal(subject) {
		return last
	}
	return int(maphash.String(s.seed, k.id) % uint64(last))
}
