package checks

import (
	"fmt"
	"net/url"

	corev1 "k8s.io/api/core/v1"
)

// passwordMode is how the file of a password may be read: by its owner and the pod's group.
const passwordMode = 0o440

// Passwords finds daemons that do not read Redis' password from a file of a Secret. In the environment it would stand in every
// dump of the process, and change with a new pod only.
func Passwords(b Build) []string {
	var problems []string
	for _, d := range b.Daemons() {
		for _, problem := range []string{d.secretVariable(), d.passwordFile()} {
			if problem != "" {
				problems = append(problems, fmt.Sprintf("%s: %s", d, problem))
			}
		}
	}
	return problems
}

// secretVariable says which variable has a password, or all that a Secret has.
func (d Daemon) secretVariable() string {
	for _, from := range d.Container.EnvFrom {
		if from.SecretRef != nil {
			return "all of Secret " + from.SecretRef.Name + " is in its environment"
		}
	}
	for _, env := range d.Container.Env {
		if env.ValueFrom != nil && env.ValueFrom.SecretKeyRef != nil {
			return env.Name + " has in the environment what Secret " + env.ValueFrom.SecretKeyRef.Name + " keeps"
		}
	}
	if d.Env["REDIS_PASSWORD"] != "" {
		return "REDIS_PASSWORD is in its environment"
	}
	if u, err := url.Parse(d.Env["REDIS_URL"]); err == nil {
		if _, set := u.User.Password(); set {
			return "REDIS_URL has a password"
		}
	}
	return ""
}

// passwordFile says what is wrong with the file of the password.
func (d Daemon) passwordFile() string {
	at := d.Env["REDIS_PASSWORD_FILE"]
	mount, rest := mountOf(d.Container, at)
	if mount == nil || mount.SubPath != "" || mount.SubPathExpr != "" {
		return fmt.Sprintf("REDIS_PASSWORD_FILE=%q is in no volume, or in one by a subPath, which never changes", at)
	}
	volume := d.Pod.volume(mount.Name)
	if volume == nil || volume.Secret == nil {
		return fmt.Sprintf("REDIS_PASSWORD_FILE=%q is in no Secret", at)
	}
	if keyOf(volume.Secret.Items, rest) == "" {
		return fmt.Sprintf("REDIS_PASSWORD_FILE=%q is no item of volume %s", at, volume.Name)
	}
	if mode := volume.Secret.DefaultMode; mode == nil || *mode != passwordMode {
		return fmt.Sprintf("volume %s has not the mode 0%o", volume.Name, passwordMode)
	}
	if s := d.Pod.Spec.SecurityContext; s == nil || s.FSGroup == nil {
		return "the pod has no fsGroup: it may not read the password"
	}
	return ""
}

// keyOf returns the key whose value is the file of a path; without items each key is its own path.
func keyOf(items []corev1.KeyToPath, path string) string {
	for _, item := range items {
		if item.Path == path {
			return item.Key
		}
	}
	if len(items) == 0 {
		return path
	}
	return ""
}
