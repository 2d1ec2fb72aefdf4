package checks

import "fmt"

// policyName is the name of the ConfigMap with the policy.
const policyName = "ratelimitd-policy"

// Policy returns the text of the daemon's policy, which is a file of a ConfigMap.
func (d Daemon) Policy() (text, problem string) {
	return d.build.file(d.Pod, d.Container, d.Env["RATELIMITD_POLICY"])
}

// Policies finds daemons whose policy cannot change while they run: one in no file of a ConfigMap, and one in a ConfigMap of
// another name. A name with a hash of the content is a new one with each change, which would start new pods.
func Policies(b Build) []string {
	var problems []string
	for _, d := range b.Daemons() {
		if _, problem := d.Policy(); problem != "" {
			problems = append(problems, problem)
			continue
		}
		mount, _ := mountOf(d.Container, d.Env["RATELIMITD_POLICY"])
		if name := d.Pod.volume(mount.Name).ConfigMap.Name; name != policyName {
			problems = append(problems, fmt.Sprintf("%s: its policy is in ConfigMap %s, want %s, without a hash: "+
				"a change is to be read by the pods that there are, and start no new ones", d, name, policyName))
		}
	}
	return problems
}
