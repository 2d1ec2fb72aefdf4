package redis

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// keyPrefix begins every key of ours.
const keyPrefix = "rl:"

// maxPlainID is the longest escaped id that stands in a key as it is; a longer one stands as its SHA-256, so that the size
// of a key has a bound.
const maxPlainID = 96

const hexDigits = "0123456789ABCDEF"

// subjectKey is what all keys of a subject begin with: "rl:{kind:id}:". The braces make it the hash tag, so that a Cluster
// keeps a subject's keys together. Every byte of kind and id outside [A-Za-z0-9._@-] is written as %XX, so no id can close
// the tag or look like another's; '#', which begins a hashed id, is among those bytes.
func subjectKey(s store.Subject) string {
	var b strings.Builder
	b.Grow(len(keyPrefix) + len(s.Kind) + len(s.ID) + 4)
	b.WriteString(keyPrefix)
	b.WriteByte('{')
	escape(&b, s.Kind)
	b.WriteByte(':')
	if len(s.ID) > maxPlainID {
		hashID(&b, s.ID)
	} else {
		escape(&b, s.ID)
	}
	b.WriteString("}:")
	return b.String()
}

// logKey is the key of what a check of a subject's unit is about: a log, a ledger, or the open holds.
func logKey(s store.Subject, u store.Unit) string {
	return subjectKey(s) + logSuffix(u)
}

// openSuffix ends the key of a subject's open holds, which are its slots in use, too.
const openSuffix = "h"

func logSuffix(u store.Unit) string {
	switch u {
	case store.Tokens:
		return "t"
	case store.USD:
		return "u"
	case store.Concurrent:
		return openSuffix
	case store.Requests:
		return "r"
	default:
		return "r"
	}
}

func hashID(b *strings.Builder, id string) {
	sum := sha256.Sum256([]byte(id))
	b.WriteByte('#')
	b.WriteString(hex.EncodeToString(sum[:]))
}

func escape(b *strings.Builder, s string) {
	plain := 0
	for i := range len(s) {
		c := s[i]
		if isPlain(c) {
			continue
		}
		b.WriteString(s[plain:i])
		b.WriteByte('%')
		b.WriteByte(hexDigits[c>>4])
		b.WriteByte(hexDigits[c&15])
		plain = i + 1
	}
	b.WriteString(s[plain:])
}

func isPlain(c byte) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		return true
	default:
		return c == '.' || c == '_' || c == '-' || c == '@'
	}
}

// slotOf is the Cluster slot of a key of ours: CRC16 (XMODEM) of the hash tag, modulo 16384, as the Cluster
// specification has it.
func slotOf(key string) int {
	begin := strings.IndexByte(key, '{')
	end := strings.IndexByte(key, '}')
	if begin >= 0 && end > begin+1 {
		key = key[begin+1 : end]
	}
	crc := uint16(0)
	for i := range len(key) {
		crc ^= uint16(key[i]) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return int(crc % clusterSlots)
}

const clusterSlots = 16384

// logKeys are all logs that a subject may have.
func logKeys(sub store.Subject) []string {
	return []string{logKey(sub, store.Requests), logKey(sub, store.Tokens), logKey(sub, store.USD)}
}

// overrideKey is where a subject's override is.
func overrideKey(sub store.Subject) string { return subjectKey(sub) + "o" }
