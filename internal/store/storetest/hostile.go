package storetest

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// hostileSubjects are subjects that a careless key would mix up, or that would break it. All are different.
func hostileSubjects() []store.Subject {
	const large = 64 << 10
	long := strings.Repeat("x", large)
	digest := sha256.Sum256([]byte(long))
	var out []store.Subject
	add := func(kind string, ids ...string) {
		for _, id := range ids {
			out = append(out, store.Subject{Kind: kind, ID: id})
		}
	}
	add("a", "b_c", "b:c", "b/c", "b|c", "b c", "b\x00c", "b,c", "b.c")
	add("a_b", "c")
	add("a:b", "c")
	add("a/b", "c")
	add("a|b", "c")
	add("a b", "c")
	add("a\x00b", "c")
	add("a,b", "c")
	add("a.b", "c")
	add("", "", "a", "user", "user:alice", "global")
	add("user", "", "global", "{", "}", "{}", "{a}", "}{", "{a}b", "a{b}", ":", "_", " ", "\x00", "\x00\x00", "a\x00", "\x00a",
		"\n", "\r\n", "*", "?", "[a]", "\\", "\\0", "\\x00", "%00", "%", "%25", "%7B", "a b", "a%20b", "a+b", "A", "a", "a ", " a",
		"\xff", "\xfe", "\xc0\x80", "\xed\xa0\x80", "\ufffd", "é", "e\u0301", "\u202eabc", "💰", "0", "00", "-1", "1e3", "nil", "null",
		"' OR 1=1", "$(id)", "../a", long, long+"x", long[1:]+"y", "y"+long[1:], string(digest[:]), hex.EncodeToString(digest[:]))
	for n := 94; n <= 98; n++ {
		add("user", long[:n])
	}
	add("global", "global", "user", "\x00", "{}")
	add("user:", "x")
	add("use", "r:x", "r")
	add("requests", "1")
	add("user1", "1")
	add("user", "11")
	add(long, "", "x")
	return out
}

// hostile shows that no two subjects share a count or an override, whatever their bytes.
func hostile(t *testing.T, f *Fixture) {
	t.Helper()
	c := newCaller(t, f)
	subjects := hostileSubjects()
	limit := lim(1000, hour)
	for round := range int64(3) {
		for i, s := range subjects {
			want := round + 1
			if ans := c.admit(hit(s, 1, limit)); !ans.Admitted || ans.States[0].Used != want || ans.Seqs[0] != want {
				t.Fatalf("round %d, subject %d %s: admitted=%v used=%d seq=%d, want its own %d",
					round, i, name(s), ans.Admitted, ans.States[0].Used, ans.Seqs[0], want)
			}
		}
		slices.Reverse(subjects)
	}
	if ans := c.admit(hit(global, 0, limit)); ans.States[0].Used != 0 {
		t.Fatalf("the global subject has a count of %d, want 0: some id passes for it", ans.States[0].Used)
	}
	hostileOverrides(t, c, subjects)
}

// hostileOverrides shows that each subject has its own override, and that a reset is of one subject only.
func hostileOverrides(t *testing.T, c *caller, subjects []store.Subject) {
	t.Helper()
	for i, s := range subjects {
		ans := c.admit(hit(s, 0, lim(1000, hour)))
		if len(ans.Stale) > 0 {
			t.Fatalf("subject %d %s has another one's override %+v", i, name(s), ans.Stale[0])
		}
		version := c.override(s, "plan: "+s.ID)
		check := hit(s, 0, lim(1000, hour))
		check.Override = version
		if ans := c.admit(check); len(ans.Stale) > 0 || ans.States[0].Used != 3 {
			t.Fatalf("subject %d %s under its own override: %+v, want a use of 3", i, name(s), ans)
		}
		c.reset(s)
		if ans := c.admit(check); len(ans.Stale) > 0 || ans.States[0].Used != 0 {
			t.Fatalf("subject %d %s after a reset: %+v, want a use of 0 under the same override", i, name(s), ans)
		}
	}
}
