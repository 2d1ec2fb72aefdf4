//go:build apiserver

package apiserver

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/ratelimitd/ratelimitd/test/harness"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
)

// Who owns the fields of what is applied. They are two, for the server takes from an object what its manifest no longer says of
// the fields of the same manager.
const (
	manager = "test-k8s"      // those of the manifests
	host    = "test-k8s-host" // those of what has to be there before them
)

// client applies objects as `kubectl apply --server-side` does, and is strict.
type client struct {
	objects dynamic.Interface
	core    kubernetes.Interface
	kinds   *restmapper.DeferredDiscoveryRESTMapper
	heard   *warnings
}

// warnings are what the server has said beside its answers.
type warnings struct {
	mu    sync.Mutex
	texts []string
}

// HandleWarningHeader notes a warning.
func (w *warnings) HandleWarningHeader(_ int, _, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if text != "" {
		w.texts = append(w.texts, text)
	}
}

// take returns what was heard since the last time.
func (w *warnings) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	texts := w.texts
	w.texts = nil
	return texts
}

func newClient(t *testing.T, config *rest.Config) *client {
	t.Helper()
	c := &client{heard: &warnings{}}
	config = rest.CopyConfig(config)
	config.WarningHandler = c.heard
	config.QPS = -1 // one test asks, as fast as it can
	var err error
	if c.core, err = kubernetes.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	if c.objects, err = dynamic.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	c.kinds = restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(c.core.Discovery()))
	return c
}

// at returns where objects of this one's kind live.
func (c *client) at(object *unstructured.Unstructured) (dynamic.ResourceInterface, error) {
	kind := object.GroupVersionKind()
	mapping, err := c.kinds.RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return nil, err
	}
	if mapping.Scope.Name() == "root" {
		return c.objects.Resource(mapping.Resource), nil
	}
	return c.objects.Resource(mapping.Resource).Namespace(namespaceOf(object)), nil
}

// namespaceOf returns the namespace that an object is in, or that it is.
func namespaceOf(object *unstructured.Unstructured) string {
	switch {
	case object.GetKind() == "Namespace":
		return object.GetName()
	case object.GetNamespace() == "":
		return metav1.NamespaceDefault
	}
	return object.GetNamespace()
}

// apply has the server take an object, whose fields are then the manager's. A field that it does not know is an error.
func (c *client) apply(ctx context.Context, object *unstructured.Unstructured, manager string) error {
	at, err := c.at(object)
	if err != nil {
		return err
	}
	text, err := object.MarshalJSON()
	if err != nil {
		return err
	}
	_, err = at.Patch(ctx, object.GetName(), "application/apply-patch+yaml", text, metav1.PatchOptions{
		FieldManager: manager, FieldValidation: metav1.FieldValidationStrict,
	})
	return err
}

// read returns an object as the server has it.
func (c *client) read(ctx context.Context, object *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	at, err := c.at(object)
	if err != nil {
		return nil, err
	}
	return at.Get(ctx, object.GetName(), metav1.GetOptions{})
}

// remove deletes an object. There is no controller that would end a namespace, so one stays.
func (c *client) remove(ctx context.Context, object *unstructured.Unstructured) error {
	if object.GetKind() == "Namespace" {
		return nil
	}
	at, err := c.at(object)
	if err != nil {
		return err
	}
	if err := at.Delete(ctx, object.GetName(), metav1.DeleteOptions{}); err != nil {
		return err
	}
	if _, err := at.Get(ctx, object.GetName(), metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		return fmt.Errorf("it is deleted, and still there (%w)", err)
	}
	return nil
}

// makeNamespace makes a namespace that takes restricted pods alone, for manifests that bring none.
func (c *client) makeNamespace(t *testing.T, name string) {
	t.Helper()
	object := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": name, "labels": map[string]any{
			"pod-security.kubernetes.io/enforce": "restricted",
			"pod-security.kubernetes.io/warn":    "restricted",
		}},
	}}
	if err := c.apply(t.Context(), object, host); err != nil {
		t.Fatalf("make namespace %s: %v", name, err)
	}
}

// makeAccount makes the account that a controller would make in a namespace; without it no pod is taken.
func (c *client) makeAccount(t *testing.T, namespace string) {
	t.Helper()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	_, err := c.core.CoreV1().ServiceAccounts(namespace).Create(t.Context(), account, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatalf("make the default account of namespace %s: %v", namespace, err)
	}
}

// define makes a kind known to the server, and waits until objects of it can be made.
func (c *client) define(t *testing.T, definition *unstructured.Unstructured) {
	t.Helper()
	if err := c.apply(t.Context(), definition, host); err != nil {
		t.Fatalf("define %s: %v", definition.GetName(), err)
	}
	harness.WaitFor(t, definition.GetName()+" is established", func(ctx context.Context) error {
		got, err := c.read(ctx, definition)
		if err != nil {
			return err
		}
		conditions, _, err := unstructured.NestedSlice(got.Object, "status", "conditions")
		if err != nil {
			return err
		}
		for _, condition := range conditions {
			if fields, ok := condition.(map[string]any); ok && fields["type"] == "Established" && fields["status"] == "True" {
				return nil
			}
		}
		return errors.New("no such condition")
	})
	c.kinds.Reset()
}

// podOf returns the pod that a controller would make of an object with a template; false if it has none.
func podOf(typed runtime.Object, namespace, name string) (*corev1.Pod, bool, error) {
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(typed)
	if err != nil {
		return nil, false, err
	}
	for _, at := range [][]string{{"spec", "template"}, {"spec", "jobTemplate", "spec", "template"}} {
		template, found, err := unstructured.NestedMap(fields, at...)
		if err != nil || !found {
			continue // another kind has something else there, or nothing
		}
		var pod corev1.Pod
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(template, &pod); err != nil {
			return nil, false, err
		}
		pod.Name, pod.Namespace = name, namespace
		return &pod, true, nil
	}
	return nil, false, nil
}

// namespacesOf returns the namespaces that objects are in, and whether the objects bring each of them.
func namespacesOf(objects []*unstructured.Unstructured) map[string]bool {
	brought := map[string]bool{}
	for _, object := range objects {
		name := namespaceOf(object)
		brought[name] = brought[name] || object.GetKind() == "Namespace"
	}
	return brought
}
