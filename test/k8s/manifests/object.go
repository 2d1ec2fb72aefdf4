package manifests

import (
	"fmt"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"
)

// Object is one object as it would be applied.
type Object struct {
	Typed runtime.Object // as *appsv1.Deployment
	YAML  []byte         // the same, as kustomize wrote it
}

// Scheme returns the types that objects may have: those of Kubernetes and those of the Prometheus operator.
func Scheme() *runtime.Scheme {
	scheme := runtime.NewScheme()
	utilruntime.Must(clientscheme.AddToScheme(scheme))
	utilruntime.Must(monitoringv1.AddToScheme(scheme))
	return scheme
}

// Decode decodes the YAML of one object. It errs when its kind is unknown, when a field is, and when one stands twice.
func Decode(text []byte) (Object, error) {
	scheme := Scheme()
	decoder := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{Yaml: true, Strict: true})
	typed, _, err := decoder.Decode(text, nil, nil)
	if err != nil {
		return Object{}, fmt.Errorf("decode: %w", err)
	}
	return Object{Typed: typed, YAML: text}, nil
}

// Kind returns the object's kind, as "Deployment".
func (o Object) Kind() string { return o.Typed.GetObjectKind().GroupVersionKind().Kind }

// Name returns the object's name.
func (o Object) Name() string {
	if m, err := meta.Accessor(o.Typed); err == nil {
		return m.GetName()
	}
	return ""
}

// Namespace returns the object's namespace; empty if it names none, or is above them.
func (o Object) Namespace() string {
	if m, err := meta.Accessor(o.Typed); err == nil {
		return m.GetNamespace()
	}
	return ""
}

// String names the object, as "Deployment ratelimitd/ratelimitd".
func (o Object) String() string {
	if o.Namespace() == "" {
		return o.Kind() + " " + o.Name()
	}
	return o.Kind() + " " + o.Namespace() + "/" + o.Name()
}

// Unstructured returns the object as a dynamic client takes it: only what was written, without the empty fields that the
// typed object has.
func (o Object) Unstructured() (*unstructured.Unstructured, error) {
	fields := map[string]any{}
	if err := yaml.Unmarshal(o.YAML, &fields); err != nil {
		return nil, fmt.Errorf("%s: %w", o, err)
	}
	return &unstructured.Unstructured{Object: fields}, nil
}
