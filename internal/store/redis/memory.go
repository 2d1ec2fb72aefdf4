package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// NoEviction is the maxmemory-policy under which Redis drops no key, and refuses to write when its memory is full.
const NoEviction = "noeviction"

// ErrForbidden says that Redis does not let its user ask. Its text names the command.
var ErrForbidden = errors.New("the Redis user may not run INFO: grant it with ACL SETUSER <user> +info")

// Memory is what Redis says about its memory; of a Cluster, all masters together.
type Memory struct {
	Used int64 // bytes
	Max  int64 // bytes; 0 if any of the servers has no bound
	// Policy is the maxmemory-policy: NoEviction if all servers have that, else one that another server has.
	Policy string
}

// MayEvict tells whether Redis may drop keys when its memory is full.
func (m Memory) MayEvict() bool { return m.Policy != NoEviction }

// Memory asks Redis about its memory, on a Cluster all masters. It errs with ErrForbidden if the user has no right to ask, and with
// store.ErrUnavailable if Redis does not answer.
func (s *Store) Memory(ctx context.Context) (Memory, error) {
	cluster, ok := s.client.(*redis.ClusterClient)
	if !ok {
		m, err := memoryOf(ctx, s.client)
		if err != nil {
			return Memory{}, notTold(err)
		}
		return m, nil
	}
	var (
		mu  sync.Mutex
		all []Memory
	)
	err := cluster.ForEachMaster(ctx, func(ctx context.Context, master *redis.Client) error {
		one, err := memoryOf(ctx, master)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		all = append(all, one)
		return nil
	})
	switch {
	case err != nil:
		return Memory{}, notTold(err)
	case len(all) == 0:
		return Memory{}, notTold(errors.New("the Cluster names no master"))
	default:
		return together(all), nil
	}
}

// notTold is why Redis did not tell of its memory.
func notTold(err error) error {
	switch {
	case redis.HasErrorPrefix(err, "NOPERM"):
		return fmt.Errorf("%w: %w", ErrForbidden, err)
	case errors.Is(err, errMemory):
		return err
	default:
		return unavailable("asking about memory", err)
	}
}

// together adds the masters of a Cluster up.
func together(all []Memory) Memory {
	sum := Memory{Policy: NoEviction}
	bounded := true
	for _, one := range all {
		sum.Used += one.Used
		sum.Max += one.Max
		bounded = bounded && one.Max > 0
		if one.MayEvict() {
			sum.Policy = one.Policy
		}
	}
	if !bounded {
		sum.Max = 0
	}
	return sum
}

// asker is a client of one server.
type asker interface {
	Info(ctx context.Context, section ...string) *redis.StringCmd
}

func memoryOf(ctx context.Context, server asker) (Memory, error) {
	info, err := server.Info(ctx, "memory").Result()
	if err != nil {
		return Memory{}, err //nolint:wrapcheck // notTold does, for all ways to get here
	}
	return parseMemory(info)
}

// errMemory says that an answer cannot be read.
var errMemory = errors.New("the answer to INFO memory is not as Redis writes it")

// parseMemory reads the section memory of INFO: lines of name:value.
func parseMemory(info string) (Memory, error) {
	fields := map[string]string{}
	for line := range strings.Lines(info) {
		if name, value, ok := strings.Cut(strings.TrimRight(line, "\r\n"), ":"); ok {
			fields[name] = value
		}
	}
	m := Memory{Policy: fields["maxmemory_policy"]}
	for _, number := range []struct {
		name string
		to   *int64
	}{{"used_memory", &m.Used}, {"maxmemory", &m.Max}} {
		n, err := strconv.ParseInt(fields[number.name], 10, 64)
		if err != nil || n < 0 {
			return Memory{}, fmt.Errorf("%w: %s is %q, which is no number of bytes", errMemory, number.name, fields[number.name])
		}
		*number.to = n
	}
	if m.Policy == "" {
		return Memory{}, fmt.Errorf("%w: it names no maxmemory_policy", errMemory)
	}
	return m, nil
}
