package checks

import (
	"fmt"
	"net"
	"path"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Addresses finds daemons that cannot be reached where the pod says: a port that is open to the pod alone, that the container
// does not name, or that is another than the probes'; a cost API that is open to all beside a socket; a socket in a folder that
// no other container has, or whose group others do not share.
func Addresses(b Build) []string {
	var problems []string
	for _, d := range b.Daemons() {
		for _, setting := range []string{"RATELIMITD_GRPC_ADDR", "RATELIMITD_METRICS_ADDR"} {
			for addr := range strings.SplitSeq(d.Env[setting], ",") {
				var problem string
				if socket, ok := strings.CutPrefix(addr, "unix:"); ok {
					problem = d.socket(socket)
				} else {
					problem = d.port(addr)
				}
				if problem != "" {
					problems = append(problems, fmt.Sprintf("%s: %s=%q: %s", d, setting, addr, problem))
				}
			}
		}
		if problem := d.api(); problem != "" {
			problems = append(problems, fmt.Sprintf("%s: RATELIMITD_HTTP_ADDR=%q: %s", d, d.Env["RATELIMITD_HTTP_ADDR"], problem))
		}
		problems = append(problems, d.probes()...)
	}
	return problems
}

// api says what is wrong with the address of the cost API, which does not ask who is calling: a daemon that serves its own pod by a
// socket keeps it in the pod, and another serves whoever its NetworkPolicy lets in.
func (d Daemon) api() string {
	addr := d.Env["RATELIMITD_HTTP_ADDR"]
	if d.isShared() {
		return d.port(addr)
	}
	if host, _, err := net.SplitHostPort(addr); err != nil || !net.ParseIP(host).IsLoopback() {
		return "others than this pod reach it"
	}
	return ""
}

// port says what is wrong with an address of TCP.
func (d Daemon) port(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err.Error()
	}
	if ip := net.ParseIP(host); host != "" && (ip == nil || !ip.IsUnspecified()) {
		return "nobody outside of the pod reaches it, not even a probe"
	}
	if n, err := strconv.ParseInt(port, 10, 32); err != nil || !hasPort([]corev1.Container{d.Container}, intstr.FromInt32(int32(n))) {
		return "the container names no such port"
	}
	return ""
}

// socket says what is wrong with a socket's path.
func (d Daemon) socket(at string) string {
	mine, _ := mountOf(d.Container, at)
	if mine == nil || mine.MountPath != path.Dir(at) {
		return "its folder is no volume, and the root file system is read-only"
	}
	if s := d.Pod.Spec.SecurityContext; s == nil || s.FSGroup == nil {
		return "the pod has no fsGroup: other containers are not in the socket's group"
	}
	for _, c := range d.Pod.Containers() {
		theirs, _ := mountOf(c, at)
		if c.Name != d.Container.Name && theirs != nil && theirs.Name == mine.Name && theirs.MountPath == mine.MountPath {
			return ""
		}
	}
	return "no other container has its folder"
}

// probes says what of the daemon's probes does not ask for its health, or for more of it than it should: only /healthz and
// /readyz do not look at Redis.
func (d Daemon) probes() []string {
	paths := map[string]string{"startup": "/readyz", "readiness": "/readyz", "liveness": "/healthz"}
	var problems []string
	for name, want := range paths {
		probe := probesOf(d.Container)[name]
		if probe == nil || probe.HTTPGet == nil || probe.HTTPGet.Path != want {
			problems = append(problems, fmt.Sprintf("%s: its %s probe does not ask for %s", d, name, want))
			continue
		}
		_, port, _ := net.SplitHostPort(d.Env["RATELIMITD_METRICS_ADDR"])
		for _, p := range d.Container.Ports {
			if p.Name == probe.HTTPGet.Port.StrVal && strconv.Itoa(int(p.ContainerPort)) != port {
				problems = append(problems,
					fmt.Sprintf("%s: its %s probe goes to port %d, health is at %s", d, name, p.ContainerPort, port))
			}
		}
	}
	slices.Sort(problems)
	return problems
}
