package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/ratelimitd/ratelimitd/test/harness"
)

const clientTimeout = 2 * time.Minute // prefills send megabytes at once

// redisServer is one redis-server process without persistence.
type redisServer struct {
	name string
	addr string
	ask  *redis.Client
}

// startRedis starts a redis-server that ends with the benchmark.
func startRedis(t harness.TB, name string) *redisServer {
	server := harness.Redis(t)
	ask := newRedisClient(server.Addr, 1)
	t.Cleanup(func() { _ = ask.Close() }) // nothing is in flight

	return &redisServer{name: name, addr: server.Addr, ask: ask}
}

// newRedisClient returns a client that keeps up to n connections and never repeats a command.
func newRedisClient(addr string, n int) *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr: addr, PoolSize: n, MaxRetries: -1, ReadTimeout: clientTimeout, WriteTimeout: clientTimeout,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}

// usage is what a redis-server has spent and done since its start.
type usage struct {
	cpu     time.Duration // user and system time of the whole process
	reads   int64         // read events: one brings a whole pipeline
	scripts int64         // script calls
	within  time.Duration // time spent in script calls
	all     int64         // commands of all kinds, those that scripts call included
	clients int64         // connections at this moment, the asking one included
}

// used asks the server for its usage.
func (r *redisServer) used(ctx context.Context) (usage, error) {
	text, err := r.ask.Info(ctx, "cpu", "stats", "clients", "commandstats").Result()
	if err != nil {
		return usage{}, fmt.Errorf("INFO of %s: %w", r.name, err)
	}

	info := parseInfo(text)
	user, errUser := strconv.ParseFloat(info["used_cpu_user"], 64)
	system, errSystem := strconv.ParseFloat(info["used_cpu_sys"], 64)
	reads, errReads := strconv.ParseInt(info["total_reads_processed"], 10, 64)
	clients, errClients := strconv.ParseInt(info["connected_clients"], 10, 64)

	if err := errors.Join(errUser, errSystem, errReads, errClients); err != nil {
		return usage{}, fmt.Errorf("INFO of %s: %w", r.name, err)
	}

	u := usage{cpu: time.Duration((user + system) * float64(time.Second)), reads: reads, clients: clients}
	for _, command := range []string{"eval", "evalsha", "fcall"} {
		u.scripts += callsOf(info["cmdstat_"+command])
		u.within += timeOf(info["cmdstat_"+command])
	}

	for name, stat := range info {
		if strings.HasPrefix(name, "cmdstat_") {
			u.all += callsOf(stat)
		}
	}

	return u, nil
}

// since returns what was used after an earlier moment.
func (u usage) since(earlier usage) usage {
	return usage{
		cpu: u.cpu - earlier.cpu, reads: u.reads - earlier.reads, scripts: u.scripts - earlier.scripts,
		within: u.within - earlier.within, all: u.all - earlier.all, clients: u.clients,
	}
}

// parseInfo splits INFO's lines of the form name:value.
func parseInfo(text string) map[string]string {
	info := make(map[string]string)

	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[name] = value
		}
	}

	return info
}

// callsOf reads the count from a command's statistics, "calls=3,usec=34,..."; 0 if the command was never called.
func callsOf(stat string) int64 { return statOf(stat, "calls") }

// timeOf reads the time that a command has taken; 0 if it was never called.
func timeOf(stat string) time.Duration { return time.Duration(statOf(stat, "usec")) * time.Microsecond }

// statOf reads one number of a command's statistics; 0 if it is not there.
func statOf(stat, name string) int64 {
	for field := range strings.SplitSeq(stat, ",") {
		if text, ok := strings.CutPrefix(field, name+"="); ok {
			n, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				return 0
			}

			return n
		}
	}

	return 0
}
