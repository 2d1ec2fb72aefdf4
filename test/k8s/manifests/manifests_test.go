package manifests_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/ratelimitd/ratelimitd/test/k8s/manifests"
)

func TestDecodeIsStrict(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"right", "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {clusterIP: None}\n", ""},
		{"unknown field", "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {clusterIp: None}\n", `unknown field "spec.clusterIp"`},
		{"field twice", "apiVersion: v1\nkind: Service\nmetadata: {name: a, name: b}\n", `"name" already set`},
		{"wrong type", "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: 80}\n", "cannot unmarshal"},
		{"unknown kind", "apiVersion: v1\nkind: Servise\nmetadata: {name: a}\n", `no kind "Servise"`},
		{"unknown field of the operator", "apiVersion: monitoring.coreos.com/v1\nkind: PodMonitor\nmetadata: {name: a}\nspec: {portMetrics: []}\n", `unknown field "spec.portMetrics"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := manifests.Decode([]byte(c.text))
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("it says %v, want %q", err, c.want)
			}
		})
	}
}

func TestBuildNamesWhatIsWrong(t *testing.T) {
	for _, c := range []struct{ name, kustomization, object, want string }{
		{"unknown field of an object", "resources: [a.yaml]", "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: a}\nautomount: false\n", `unknown field "automount"`},
		{"unknown field of a kustomization", "resorces: [a.yaml]", "", `unknown field "resorces"`},
		{"file that is not there", "resources: [b.yaml]", "", "b.yaml"},
		{"file outside of the folder", "resources: [../b.yaml]", "", "b.yaml"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range map[string]string{"kustomization.yaml": c.kustomization, "a.yaml": c.object} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := manifests.Build(dir); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("it says %v, want %q", err, c.want)
			}
		})
	}
}

// TestUnstructuredIsWhatWasWritten compares the two forms of an object.
func TestUnstructuredIsWhatWasWritten(t *testing.T) {
	o, err := manifests.Decode([]byte("apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: b}\nspec: {clusterIP: None}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if s := o.Typed.(*corev1.Service); s.Spec.ClusterIP != "None" {
		t.Errorf("its clusterIP is %q, want None", s.Spec.ClusterIP)
	}
	u, err := o.Unstructured()
	if err != nil {
		t.Fatal(err)
	}
	if len(u.Object) != 4 || u.GetName() != "a" || o.String() != "Service b/a" {
		t.Errorf("%s has the fields %v, want those that were written", o, u.Object)
	}
}
