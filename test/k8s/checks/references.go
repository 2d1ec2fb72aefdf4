package checks

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Brought are the Secrets that whoever deploys brings along, and their keys. A build may refer to them without having them.
type Brought map[string][]string

// PodReferences finds what pods refer to and is not there: ConfigMaps, Secrets, keys of theirs, volumes, ports, accounts and
// variables.
func PodReferences(b Build, brought Brought) []string {
	var problems []string
	for _, p := range b.Pods() {
		r := references{build: b, brought: brought, pod: p}
		r.account()
		r.volumes()
		for _, c := range p.Containers() {
			r.environment(c)
			r.ports(c)
		}
		for _, problem := range r.problems {
			problems = append(problems, p.String()+": "+problem)
		}
	}
	return problems
}

// references are those of one pod.
type references struct {
	build    Build
	brought  Brought
	pod      Pod
	problems []string
}

func (r *references) missing(format string, args ...any) {
	r.problems = append(r.problems, fmt.Sprintf(format, args...))
}

func (r *references) account() {
	name := r.pod.Spec.ServiceAccountName
	if name == "" {
		name = "default"
	}
	if _, ok := r.build.find("ServiceAccount", r.pod.Of.Namespace(), name); !ok && name != "default" {
		r.missing("service account %q is not there", name)
	}
	if token := r.pod.Spec.AutomountServiceAccountToken; token == nil || *token {
		r.missing("it gets a token of the API server: write automountServiceAccountToken: false")
	}
}

// keys returns the keys of a ConfigMap or Secret, and whether it is there.
func (r *references) keys(kind, name string) (keys []string, ok bool) {
	namespace := r.pod.Of.Namespace()
	if kind == "ConfigMap" {
		c := r.build.configMap(namespace, name)
		if c == nil {
			return nil, false
		}
		return slices.AppendSeq(slices.Collect(maps.Keys(c.Data)), maps.Keys(c.BinaryData)), true
	}
	s := r.build.secret(namespace, name)
	if s == nil {
		keys, ok = r.brought[name]
		return keys, ok
	}
	return slices.AppendSeq(slices.Collect(maps.Keys(s.Data)), maps.Keys(s.StringData)), true
}

// need says what is missing of a ConfigMap or Secret that somebody refers to; an empty key asks for the whole of it.
func (r *references) need(who, kind, name, key string, optional *bool) {
	if optional != nil && *optional {
		return
	}
	keys, ok := r.keys(kind, name)
	switch {
	case !ok:
		r.missing("%s refers to %s %q, which is not there", who, kind, name)
	case key != "" && !slices.Contains(keys, key):
		r.missing("%s refers to the key %q, which %s %q does not have", who, key, kind, name)
	}
}

// volumes looks at what volumes are made of, and at what mounts them.
func (r *references) volumes() {
	mounted := map[string]bool{}
	for _, c := range r.pod.Containers() {
		for _, m := range c.VolumeMounts {
			mounted[m.Name] = true
			if !slices.ContainsFunc(r.pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name }) {
				r.missing("container %s mounts the volume %q, which is not there", c.Name, m.Name)
			}
		}
	}
	for _, v := range r.pod.Spec.Volumes {
		who := "volume " + v.Name
		if !mounted[v.Name] {
			r.missing("%s is mounted by no container", who)
		}
		r.volume(who, v)
	}
}

func (r *references) volume(who string, v corev1.Volume) {
	items := func(kind, name string, items []corev1.KeyToPath, optional *bool) {
		if len(items) == 0 {
			r.need(who, kind, name, "", optional)
		}
		for _, item := range items {
			r.need(who, kind, name, item.Key, optional)
		}
	}
	switch {
	case v.ConfigMap != nil:
		items("ConfigMap", v.ConfigMap.Name, v.ConfigMap.Items, v.ConfigMap.Optional)
	case v.Secret != nil:
		items("Secret", v.Secret.SecretName, v.Secret.Items, v.Secret.Optional)
	case v.EmptyDir != nil:
	default:
		r.missing("%s is of a kind that this check does not know: teach it", who)
	}
}

// environment looks at where variables come from.
func (r *references) environment(c corev1.Container) {
	known := map[string]bool{}
	for _, from := range c.EnvFrom {
		kind, name, optional := "", "", (*bool)(nil)
		if ref := from.ConfigMapRef; ref != nil {
			kind, name, optional = "ConfigMap", ref.Name, ref.Optional
		} else if ref := from.SecretRef; ref != nil {
			kind, name, optional = "Secret", ref.Name, ref.Optional
		}
		r.need("container "+c.Name, kind, name, "", optional)
		keys, _ := r.keys(kind, name)
		for _, key := range keys {
			known[from.Prefix+key] = true
		}
	}
	for _, env := range c.Env {
		if known[env.Name] {
			r.missing("container %s sets %s twice", c.Name, env.Name)
		}
		if from := env.ValueFrom; from != nil {
			who := "variable " + env.Name + " of container " + c.Name
			if ref := from.ConfigMapKeyRef; ref != nil {
				r.need(who, "ConfigMap", ref.Name, ref.Key, ref.Optional)
			}
			if ref := from.SecretKeyRef; ref != nil {
				r.need(who, "Secret", ref.Name, ref.Key, ref.Optional)
			}
		}
		r.expansions(c, env.Value, known)
		known[env.Name] = true
	}
	for _, arg := range slices.Concat(c.Command, c.Args) {
		r.expansions(c, arg, known)
	}
}

// expansions looks at each $(NAME): one that is not known is left as it stands.
func (r *references) expansions(c corev1.Container, text string, known map[string]bool) {
	for _, part := range strings.Split(text, "$(")[1:] {
		if name, _, ok := strings.Cut(part, ")"); ok && !known[name] {
			r.missing("container %s uses $(%s), which is not set before", c.Name, name)
		}
	}
}

// ports looks at where probes go to, and at names that stand twice in the pod.
func (r *references) ports(c corev1.Container) {
	for what, probe := range probesOf(c) {
		port := intstr.IntOrString{}
		switch {
		case probe.HTTPGet != nil:
			port = probe.HTTPGet.Port
		case probe.TCPSocket != nil:
			port = probe.TCPSocket.Port
		case probe.GRPC != nil:
			port = intstr.FromInt32(probe.GRPC.Port)
		default:
			continue
		}
		// A name is looked for in the container itself, a number may be another container's.
		among := []corev1.Container{c}
		if port.Type == intstr.Int {
			among = r.pod.Containers()
		}
		if !hasPort(among, port) {
			r.missing("the %s probe of container %s goes to port %s, which is not there", what, c.Name, port.String())
		}
	}
	for _, port := range c.Ports {
		for _, other := range r.pod.Containers() {
			if other.Name != c.Name && hasPort([]corev1.Container{other}, intstr.FromString(port.Name)) {
				r.missing("containers %s and %s have both a port %s", c.Name, other.Name, port.Name)
			}
		}
	}
}

// probesOf returns a container's probes by their names.
func probesOf(c corev1.Container) map[string]*corev1.Probe {
	probes := map[string]*corev1.Probe{"startup": c.StartupProbe, "readiness": c.ReadinessProbe, "liveness": c.LivenessProbe}
	for name, probe := range probes {
		if probe == nil {
			delete(probes, name)
		}
	}
	return probes
}

// hasPort tells whether one of the containers has a port of this name or number.
func hasPort(containers []corev1.Container, port intstr.IntOrString) bool {
	return slices.ContainsFunc(containers, func(c corev1.Container) bool {
		return slices.ContainsFunc(c.Ports, func(p corev1.ContainerPort) bool {
			return port.Type == intstr.Int && p.ContainerPort == port.IntVal || port.Type == intstr.String && p.Name == port.StrVal
		})
	})
}

// mountOf returns what a container has mounted at a path, and the rest of the path below it.
func mountOf(c corev1.Container, path string) (*corev1.VolumeMount, string) {
	for i, m := range c.VolumeMounts {
		if rest, ok := strings.CutPrefix(path, strings.TrimSuffix(m.MountPath, "/")+"/"); ok {
			return &c.VolumeMounts[i], rest
		}
	}
	return nil, ""
}
