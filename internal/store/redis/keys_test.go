package redis

import (
	"strings"
	"testing"

	"github.com/ratelimitd/ratelimitd/internal/store"
	"github.com/ratelimitd/ratelimitd/test/harness"
)

func TestNoTwoSubjectsShareAKey(t *testing.T) {
	ids := []string{
		"", "a", "a_b", "a:b", "a}b", "a{b", "{a}", "a%b", "a%25b", "a b", "a\x00b", "a\xffb", "#", "ü", "global",
		strings.Repeat("x", maxPlainID), strings.Repeat("x", maxPlainID+1), strings.Repeat("x", 1<<16),
		"#" + strings.Repeat("0", 64),
	}
	seen := make(map[string]store.Subject)
	for _, kind := range []string{"user", "org", "global", "a", "a:b", "a}"} {
		for _, id := range ids {
			s := store.Subject{Kind: kind, ID: id}
			for _, key := range append(logKeys(s), overrideKey(s)) {
				if other, taken := seen[key]; taken {
					t.Errorf("%q and %q share the key %q", other, s, key)
				}
				seen[key] = s
				if len(key) > 3*maxPlainID+64 {
					t.Errorf("the key of %.40q is %d bytes long", s, len(key))
				}
			}
		}
	}
}

func TestASubjectsKeysShareTheSlotThatRedisGivesThem(t *testing.T) {
	server := harness.Redis(t, harness.WithArgs("--cluster-enabled", "yes"))
	for _, id := range []string{"", "42", "a}b", "{x}", "\xff\x00", strings.Repeat("long", 100)} {
		s := store.Subject{Kind: "user", ID: id}
		for _, key := range append(logKeys(s), overrideKey(s), subjectKey(s)+"x:mark") {
			want, err := server.Client.ClusterKeySlot(t.Context(), key).Result()
			if err != nil {
				t.Fatal(err)
			}
			if got := slotOf(key); got != int(want) || got != slotOf(logKey(s, store.Requests)) {
				t.Errorf("%q: slot %d, Redis says %d", key, got, want)
			}
		}
	}
}
