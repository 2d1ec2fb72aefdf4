package redis

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
	"github.com/ratelimitd/ratelimitd/test/harness"
)

func TestRedisSaysHowMuchMemoryItUsesAndWhetherItMayEvict(t *testing.T) {
	t.Parallel()
	server := harness.Redis(t, harness.WithArgs("--maxmemory", "64mb"))
	s := openStore(t, Options{Addrs: []string{server.Addr}, Timeout: patience})
	for _, tc := range []struct {
		policy string
		evicts bool
	}{{"noeviction", false}, {"allkeys-lru", true}, {"volatile-ttl", true}} {
		if err := server.Client.ConfigSet(t.Context(), "maxmemory-policy", tc.policy).Err(); err != nil {
			t.Fatal(err)
		}
		m, err := s.Memory(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if m.Max != 64<<20 || m.Used <= 0 || m.Used >= m.Max || m.Policy != tc.policy || m.MayEvict() != tc.evicts {
			t.Errorf("under %s: got %+v, may evict: %t", tc.policy, m, m.MayEvict())
		}
	}
}

func TestTheMastersOfAClusterAreToldTogether(t *testing.T) {
	t.Parallel()
	cluster := harness.Cluster(t)
	s := openStore(t, Options{Addrs: cluster.Addrs, Cluster: true, Timeout: patience})
	set := func(node int, name, value string) {
		t.Helper()
		if err := cluster.Servers[node].Client.ConfigSet(t.Context(), name, value).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for i := range cluster.Servers {
		set(i, "maxmemory", "64mb")
	}
	const least = 3 * 512 << 10 // an empty server uses more than 512 KiB, and two together less than this
	want := func(most int64, policy string) {
		t.Helper()
		m, err := s.Memory(t.Context())
		if err != nil || m.Max != most || m.Policy != policy || m.Used < least {
			t.Errorf("got %+v (%v), want %d at most, policy %s, and more than %d used", m, err, most, policy, least)
		}
	}
	want(3*64<<20, NoEviction)
	set(1, "maxmemory-policy", "volatile-lru")
	want(3*64<<20, "volatile-lru")
	set(2, "maxmemory", "0")
	want(0, "volatile-lru")
}

func TestRedisMayRefuseToSayWhatItUses(t *testing.T) {
	t.Parallel()
	server := harness.Redis(t)
	if err := server.Client.Do(t.Context(), "ACL", "SETUSER", "limiter", "on", ">secret", "~*", "&*", "+@all", "-info").Err(); err != nil {
		t.Fatal(err)
	}
	s := openStore(t, Options{Addrs: []string{server.Addr}, Username: "limiter", Password: "secret", Timeout: patience})
	if _, err := s.Memory(t.Context()); !errors.Is(err, ErrForbidden) || !strings.Contains(err.Error(), "+info") {
		t.Errorf("without the right to ask: got %v, want one that says which right to grant", err)
	}
	if _, err := admit(t, s, ask("a", hourly(1))); err != nil {
		t.Errorf("a user without INFO decides: got %v", err)
	}
	server.Kill()
	if _, err := s.Memory(t.Context()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("of a server that is away: got %v, want it unavailable", err)
	}
}

func TestWhatIsNotAnAnswerToInfoIsAnError(t *testing.T) {
	t.Parallel()
	const good = "# Memory\r\nused_memory:1024\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n"
	if m, err := parseMemory(good); err != nil || m != (Memory{Used: 1024, Policy: NoEviction}) {
		t.Errorf("got %+v (%v)", m, err)
	}
	for name, info := range map[string]string{
		"nothing":             "",
		"no number":           strings.Replace(good, "1024", "many", 1),
		"a number below 0":    strings.Replace(good, "1024", "-1", 1),
		"too large a number":  strings.Replace(good, "1024", "99999999999999999999", 1),
		"no bound":            strings.Replace(good, "maxmemory:0", "", 1),
		"no policy":           strings.Replace(good, "maxmemory_policy:noeviction", "", 1),
		"a policy of nothing": strings.Replace(good, "noeviction", "", 1),
	} {
		if m, err := parseMemory(info); !errors.Is(err, errMemory) {
			t.Errorf("%s: got %+v (%v), want an error that says so", name, m, err)
		}
	}
}

func TestEachDecisionsWaitAndEachTripAreTimed(t *testing.T) {
	t.Parallel()
	server, cluster := harness.Redis(t), harness.Cluster(t)
	for _, tc := range []struct {
		name string
		opt  Options
	}{
		{"one server", Options{Addrs: []string{server.Addr}}},
		{"a Cluster", Options{Addrs: cluster.Addrs, Cluster: true}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			const calls = 200
			var (
				mu              sync.Mutex
				waits, trips    int
				decisions       int
				waited, tripped time.Duration
			)
			tc.opt.Timeout = patience
			tc.opt.OnQueued = func(d time.Duration) { mu.Lock(); waits++; waited = max(waited, d); mu.Unlock() }
			tc.opt.OnTrip = func(d time.Duration) { mu.Lock(); trips++; tripped = max(tripped, d); mu.Unlock() }
			tc.opt.OnBatch = func(n int) { mu.Lock(); decisions += n; mu.Unlock() }
			s := openStore(t, tc.opt)
			began := time.Now()
			var callers sync.WaitGroup
			for range calls {
				callers.Go(func() {
					if _, err := admit(t, s, ask("a", hourly(2*calls))); err != nil {
						t.Error(err)
					}
				})
			}
			callers.Wait()
			took := time.Since(began)
			mu.Lock()
			defer mu.Unlock()
			if waits != calls || decisions != calls || trips < 1 || trips > calls {
				t.Errorf("%d waits and %d trips of %d decisions are told, want %d waits, and trips that are shared", waits, trips, decisions, calls)
			}
			if tripped <= 0 || tripped > took || waited > took {
				t.Errorf("within %s the longest wait was %s and the longest trip %s", took, waited, tripped)
			}
		})
	}
}
