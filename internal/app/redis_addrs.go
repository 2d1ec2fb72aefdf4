package app

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// Redis's own ports.
const (
	redisPort    = "6379"
	sentinelPort = "26379"
)

// places names the settings that say where Redis is.
func (t *redisText) places() []string {
	var names []string
	if t.url != nil {
		names = append(names, "REDIS_URL")
	}
	if len(t.addrs) > 0 {
		names = append(names, "REDIS_ADDRS")
	}
	if t.host != "" {
		names = append(names, "REDIS_HOST")
	}
	return names
}

// finishAddrs puts together where Redis is.
func (r *reading) finishAddrs() error {
	if err := r.findAddrs(); err != nil {
		return err
	}
	if places := r.redis.places(); r.opt.Redis.Network == networkTCP && len(places) == 1 {
		for _, addr := range r.opt.Redis.Addrs {
			if err := plainAddress(places[0], addr); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *reading) findAddrs() error {
	t, to := &r.redis, &r.opt.Redis
	to.Network = networkTCP
	port := redisPort
	if to.SentinelMaster != "" {
		port = sentinelPort
	}
	switch {
	case t.url != nil && t.url.Scheme == networkUnix:
		to.Network, to.Addrs = networkUnix, []string{t.url.Path}
	case t.url != nil:
		to.Addrs = []string{withPort(t.url.Host, port)}
	case t.host != "" && t.port != "":
		to.Addrs = []string{withPort(t.host, t.port)}
	case t.host != "":
		to.Addrs = []string{withPort(t.host, port)}
	default:
		for _, addr := range t.addrs {
			if network, path := splitAddr(addr); network == networkUnix {
				if len(t.addrs) > 1 {
					return errors.New("REDIS_ADDRS names a socket among several addresses: a socket must stand alone")
				}
				to.Network, to.Addrs = networkUnix, []string{path}
				return nil
			}
			to.Addrs = append(to.Addrs, withPort(addr, port))
		}
	}
	return nil
}

// withPort adds a port to an address that has none.
func withPort(addr, port string) string {
	if _, _, err := net.SplitHostPort(addr); err == nil {
		return addr
	}
	return net.JoinHostPort(strings.Trim(addr, "[]"), port)
}

// plainAddress refuses what is more than an address. It does not repeat the value: a password may stand in it.
func plainAddress(setting, addr string) error {
	if strings.ContainsAny(addr, "@/?# ") {
		return fmt.Errorf("%s: one of its values is more than an address: write host:port; a URL goes into REDIS_URL, user and "+
			"password into REDIS_USERNAME and REDIS_PASSWORD", setting)
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%s: one of its values is no address: write host:port", setting)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%s: one of its values has no port of 1 to 65535: write host:port", setting)
	}
	return nil
}
