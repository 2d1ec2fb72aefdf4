//go:build apiserver

package apiserver

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/ratelimitd/ratelimitd/test/k8s/manifests"
)

// TestTheServerTakesEveryManifest applies everything that deploy/k8s can build, in namespaces that take restricted pods
// alone, and reads it back. Namespaces that a build brings are as it says, and have to refuse what is not restricted all the
// same.
func TestTheServerTakesEveryManifest(t *testing.T) {
	c := newClient(t, startCluster(t))
	for _, definition := range definitions(t) {
		c.define(t, definition)
	}
	root, err := manifests.Root()
	if err != nil {
		t.Fatal(err)
	}
	dirs, err := manifests.Dirs(root)
	if err != nil || len(dirs) == 0 {
		t.Fatalf("%d kustomizations in %s: %v", len(dirs), root, err)
	}
	for _, dir := range dirs {
		name, err := filepath.Rel(root, dir)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) { applyAll(t, c, dir) })
	}
}

// applyAll applies what a folder builds, compares it with what the server has, and has the server take a pod of every
// template: of a controller's object it would only warn that its pods break the rules.
func applyAll(t *testing.T, c *client, dir string) {
	built, err := manifests.Build(dir)
	if err != nil {
		t.Fatal(err)
	}
	objects := make([]*unstructured.Unstructured, len(built))
	for i, b := range built {
		if objects[i], err = b.Unstructured(); err != nil {
			t.Fatal(err)
		}
	}
	namespaces := namespacesOf(objects)
	for name, brought := range namespaces {
		if !brought {
			c.makeNamespace(t, name)
		}
	}
	c.heard.take()
	for i, object := range objects {
		applyOne(t, c, built[i], object)
	}
	for name := range namespaces {
		c.makeAccount(t, name)
		refusePrivileged(t, c, name)
	}
	pods := 0
	for i, object := range objects {
		pod, found, err := podOf(built[i].Typed, namespaceOf(object), object.GetName()+"-pod")
		if err != nil {
			t.Fatalf("the template of %s: %v", built[i], err)
		}
		if found {
			pods++
			admit(t, c, pod)
		}
	}
	for i, object := range objects {
		if err := c.remove(t.Context(), object); err != nil {
			t.Errorf("remove %s: %v", built[i], err)
		}
	}
	t.Logf("%d objects and %d pods", len(objects), pods)
}

// applyOne has the server take an object without a warning, and reads it back.
func applyOne(t *testing.T, c *client, built manifests.Object, object *unstructured.Unstructured) {
	t.Helper()
	if err := c.apply(t.Context(), object, manager); err != nil {
		t.Errorf("%s is refused: %v", built, err)
		return
	}
	for _, text := range c.heard.take() {
		t.Errorf("%s: the server warns: %s", built, text)
	}
	got, err := c.read(t.Context(), object)
	if err != nil {
		t.Errorf("read %s: %v", built, err)
		return
	}
	for _, problem := range missing(object.Object, got.Object) {
		t.Errorf("%s, read back: %s", built, problem)
	}
}

// admit has the server take a pod, and removes it.
func admit(t *testing.T, c *client, pod *corev1.Pod) {
	t.Helper()
	pods := c.core.CoreV1().Pods(pod.Namespace)
	if _, err := pods.Create(t.Context(), pod, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict}); err != nil {
		t.Errorf("the pod %s/%s is refused: %v", pod.Namespace, pod.Name, err)
		return
	}
	if err := pods.Delete(t.Context(), pod.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
		t.Errorf("remove the pod %s/%s: %v", pod.Namespace, pod.Name, err)
	}
}

// refusePrivileged errs unless the server refuses a privileged pod in a namespace because of what the namespace says.
func refusePrivileged(t *testing.T, c *client, namespace string) {
	t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "privileged"},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name: "a", Image: "a", SecurityContext: &corev1.SecurityContext{Privileged: new(true)},
		}}},
	}
	dry := metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}} // one that is taken does not stay
	_, err := c.core.CoreV1().Pods(namespace).Create(t.Context(), pod, dry)
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "PodSecurity") {
		t.Errorf("a privileged pod in namespace %s: the server says %v, want a refusal by PodSecurity", namespace, err)
	}
}

// definitions returns the custom kinds of the Prometheus operator, in the version whose types this module uses.
func definitions(t *testing.T) []*unstructured.Unstructured {
	t.Helper()
	const operator = "github.com/prometheus-operator/prometheus-operator"
	version, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Version}}", operator+"/pkg/apis/monitoring").Output()
	if err != nil {
		t.Fatalf("ask for the version of the operator's types: %v", err)
	}
	out, err := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", operator+"@"+strings.TrimSpace(string(version))).Output()
	if err != nil {
		t.Fatalf("get the operator: %v: %s", err, out)
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(out, &module); err != nil {
		t.Fatalf("get the operator: %v", err)
	}
	var found []*unstructured.Unstructured
	for _, kind := range []string{"podmonitors", "servicemonitors", "prometheusrules"} {
		text, err := os.ReadFile(filepath.Join(module.Dir, "example", "prometheus-operator-crd", "monitoring.coreos.com_"+kind+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(text, &object.Object); err != nil {
			t.Fatalf("read the definition of %s: %v", kind, err)
		}
		found = append(found, object)
	}
	return found
}
