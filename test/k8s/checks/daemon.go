package checks

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// program is the last part of the name of ratelimitd's image, in whichever registry it is.
const program = "ratelimitd"

// Daemon is one container with ratelimitd.
type Daemon struct {
	Pod       Pod
	Container corev1.Container
	Env       map[string]string // values that stand in the build; those of resource fields are computed
	build     Build
}

// Daemons returns every container with ratelimitd.
func (b Build) Daemons() []Daemon {
	var daemons []Daemon
	for _, p := range b.Pods() {
		for _, c := range p.Containers() {
			if name, _, _ := strings.Cut(path.Base(c.Image), ":"); name == program {
				daemons = append(daemons, Daemon{p, c, b.env(p, c), b})
			}
		}
	}
	return daemons
}

// String names the container.
func (d Daemon) String() string { return d.Pod.String() + ": container " + d.Container.Name }

// isShared tells whether the daemon is a service of its own, which other pods ask; by a socket it serves its own pod.
func (d Daemon) isShared() bool { return !strings.HasPrefix(d.Env["RATELIMITD_GRPC_ADDR"], "unix:") }

// env returns a container's environment as the kubelet makes it, but for what comes from Secrets.
func (b Build) env(p Pod, c corev1.Container) map[string]string {
	env := map[string]string{}
	for _, from := range c.EnvFrom {
		if from.ConfigMapRef == nil {
			continue
		}
		if c := b.configMap(p.Of.Namespace(), from.ConfigMapRef.Name); c != nil {
			for key, value := range c.Data {
				env[from.Prefix+key] = value
			}
		}
	}
	for _, e := range c.Env {
		if e.ValueFrom != nil {
			if ref := e.ValueFrom.ResourceFieldRef; ref != nil && ref.Resource == "limits.memory" {
				limit, divisor := c.Resources.Limits[corev1.ResourceMemory], ref.Divisor
				env[e.Name] = strconv.FormatInt((limit.Value()+divisor.Value()-1)/max(divisor.Value(), 1), 10)
			}
			continue
		}
		env[e.Name] = expand(e.Value, env)
	}
	return env
}

// expand writes what is known of each $(NAME).
func expand(text string, env map[string]string) string {
	for name, value := range env {
		text = strings.ReplaceAll(text, "$("+name+")", value)
	}
	return text
}

// isOfGo tells whether the daemon does not read a variable, but the Go in it or the manifests themselves.
func isOfGo(name string) bool {
	return slices.Contains([]string{"GOMEMLIMIT", "GOGC", "MEMORY_LIMIT_MIB"}, name)
}

// Settings finds variables that are no settings of the daemon, and daemons that do not serve, by the variables and Redis alone.
func Settings(b Build, known []string) []string {
	var problems []string
	for _, d := range b.Daemons() {
		problems = append(problems, d.start()...)
		for name := range d.Env {
			if !slices.Contains(known, name) && !isOfGo(name) && !strings.HasPrefix(name, "OTEL_") {
				problems = append(problems, fmt.Sprintf("%s: %s is no setting of ratelimitd", d, name))
			}
		}
	}
	slices.Sort(problems)
	return problems
}

// start says what is wrong with how the daemon is started.
func (d Daemon) start() []string {
	var problems []string
	wrong := func(what string) { problems = append(problems, fmt.Sprintf("%s: %s", d, what)) }
	if len(d.Container.Command) > 0 || !slices.Equal(d.Container.Args, []string{"serve"}) {
		wrong("it is started by other words than `serve`: flags would win over the variables, which the other checks look at")
	}
	if store := d.Env["RATELIMITD_STORE"]; store != "redis" {
		wrong(fmt.Sprintf("RATELIMITD_STORE is %q: without an address of Redis each pod would count for itself", store))
	}
	if links := d.Pod.Spec.EnableServiceLinks; links == nil || *links { // for one named redis, REDIS_PORT would be a URL
		wrong("each Service adds variables to it: write enableServiceLinks: false")
	}
	return problems
}

// Endings finds pods that have too little time to end: what comes one after the other must fit into the grace period.
func Endings(b Build) []string {
	var problems []string
	for _, d := range b.Daemons() {
		needed, grace := d.Pod.longestSleep(), 30*time.Second
		if g := d.Pod.Spec.TerminationGracePeriodSeconds; g != nil {
			grace = time.Duration(*g) * time.Second
		}
		for _, setting := range []string{"RATELIMITD_DRAIN_DELAY", "RATELIMITD_SHUTDOWN_TIMEOUT"} {
			text, ok := d.Env[setting]
			if !ok && setting == "RATELIMITD_DRAIN_DELAY" {
				continue // none by default
			}
			part, err := time.ParseDuration(text)
			if err != nil {
				problems = append(problems, fmt.Sprintf("%s: %s says no time: %v", d, setting, err))
			}
			needed += part
		}
		if grace <= needed {
			problems = append(problems, fmt.Sprintf("%s: the grace period of %s is no longer than what it takes to end: "+
				"preStop, the drain delay and the shutdown timeout are %s", d, grace, needed))
		}
	}
	return problems
}

// longestSleep is how long the pod waits before the first signal.
func (p Pod) longestSleep() time.Duration {
	var longest time.Duration
	for _, c := range p.Containers() {
		longest = max(longest, sleepOf(c))
	}
	return longest
}

// Images finds images without a tag, with one that moves, and one name with several tags.
func Images(b Build) []string {
	var problems []string
	tags := map[string]string{}
	for _, p := range b.Pods() {
		for _, c := range p.Containers() {
			at := strings.LastIndexByte(c.Image, ':')
			if at < strings.LastIndexByte(c.Image, '/') || at < 0 || c.Image[at+1:] == "latest" {
				problems = append(problems, fmt.Sprintf("%s: container %s: image %s has no tag that stands still", p, c.Name, c.Image))
				continue
			}
			name, tag := c.Image[:at], c.Image[at+1:]
			if other, ok := tags[name]; ok && other != tag {
				problems = append(problems, fmt.Sprintf("%s: container %s: image %s is %s elsewhere", p, c.Name, c.Image, other))
			}
			tags[name] = tag
		}
	}
	return problems
}
