package redis

import (
	"crypto/tls"
	"strings"
	"testing"
)

func TestOptionsThatReachNoRedisAreRefused(t *testing.T) {
	one, two := []string{"a:1"}, []string{"a:1", "b:1"}
	for _, tt := range []struct {
		what string
		opt  Options
		want string // part of the message
	}{
		{"nothing", Options{}, "no address is set"},
		{"a Cluster by Sentinels", Options{Addrs: two, Cluster: true, SentinelMaster: "m"}, "REDIS_SENTINEL_MASTER exclude each other"},
		{"another database of a Cluster", Options{Addrs: two, Cluster: true, DB: 1}, "REDIS_DB 1 on a Cluster"},
		{"servers that are neither", Options{Addrs: two}, "several Redis addresses"},
		{"a socket of a Cluster", Options{Addrs: one, Network: "unix", Cluster: true}, "a Redis socket is one server"},
		{"a socket of a Sentinel", Options{Addrs: one, Network: "unix", SentinelMaster: "m"}, "a Redis socket is one server"},
		{"two passwords", Options{Addrs: one, Password: "x", PasswordFile: "y"}, "REDIS_PASSWORD_FILE exclude each other"},
		{"old TLS", Options{Addrs: one, TLS: &tls.Config{MinVersion: tls.VersionTLS11}}, "at least version 1.2"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			if _, err := New(tt.opt); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("New ends with %v, want an error with %q", err, tt.want)
			}
		})
	}
}
