package engine

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"maps"
	"slices"

	"github.com/ratelimitd/ratelimitd/internal/budget"
)

// digest hashes what a caller asked, so that a repeat is told from another request. Every part has its length before it, so that
// no two requests make the same bytes.
type digest struct{ sum hash.Hash }

// newDigest begins a hash; purpose keeps hashes of different things apart.
func newDigest(purpose string) digest {
	d := digest{sum: sha256.New()}
	d.text(purpose)
	return d
}

func (d digest) text(text string) {
	d.number(int64(len(text)))
	_, _ = d.sum.Write([]byte(text)) // never fails
}

func (d digest) number(n int64) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(n))
	_, _ = d.sum.Write(b[:]) // never fails
}

func (d digest) flag(set bool) {
	n := int64(0)
	if set {
		n = 1
	}
	d.number(n)
}

func (d digest) texts(texts map[string]string) {
	d.number(int64(len(texts)))
	for _, key := range slices.Sorted(maps.Keys(texts)) {
		d.text(key)
		d.text(texts[key])
	}
}

// id is the hash as the id of a hold.
func (d digest) id() (id [tokenIDBytes]byte) {
	copy(id[:], d.sum.Sum(nil))
	return id
}

// fingerprint is the hash in 64 bits, never 0.
func (d digest) fingerprint() uint64 {
	return max(binary.BigEndian.Uint64(d.sum.Sum(nil)), 1)
}

func (d digest) usage(u *budget.Usage) {
	d.flag(u != nil)
	if u != nil {
		for _, n := range []int64{u.Input, u.CacheRead, u.CacheWrite, u.Output, u.Reasoning} {
			d.number(n)
		}
	}
}

func (d digest) amount(n *int64) {
	d.flag(n != nil)
	if n != nil {
		d.number(*n)
	}
}
