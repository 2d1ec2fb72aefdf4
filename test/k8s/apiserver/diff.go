package apiserver

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/api/resource"
)

// missing tells what of the fields that were sent is not in the object that was read back, each with its path. What the
// server has added does not matter.
func missing(sent, got map[string]any) []string { return missingAt("", readable(sent), got) }

// readable returns an object with what the server keeps in another form in that form: it never shows stringData.
func readable(object map[string]any) map[string]any {
	text, ok := object["stringData"].(map[string]any)
	if !ok {
		return object
	}
	object = maps.Clone(object)
	delete(object, "stringData")
	data := map[string]any{}
	if old, ok := object["data"].(map[string]any); ok {
		maps.Copy(data, old)
	}
	for key, value := range text {
		data[key] = base64.StdEncoding.EncodeToString([]byte(fmt.Sprint(value)))
	}
	object["data"] = data
	return object
}

func missingAt(path string, sent, got any) []string {
	switch sent := sent.(type) {
	case nil:
		return nil // a field that is null is one that was not sent
	case map[string]any:
		return missingFields(path, sent, got)
	case []any:
		return missingItems(path, sent, got)
	}
	if same(sent, got) {
		return nil
	}
	return []string{fmt.Sprintf("%s is %v, and %v was sent", path, got, sent)}
}

func missingFields(path string, sent map[string]any, got any) []string {
	have, ok := got.(map[string]any)
	if !ok && got != nil {
		return []string{fmt.Sprintf("%s is %v, and fields were sent", path, got)}
	}
	if got == nil && len(sent) > 0 {
		return []string{path + " is not there"}
	}
	var problems []string
	for _, name := range slices.Sorted(maps.Keys(sent)) {
		problems = append(problems, missingAt(path+"."+name, sent[name], have[name])...)
	}
	return problems
}

func missingItems(path string, sent []any, got any) []string {
	have, ok := got.([]any)
	if !ok && got != nil || len(have) != len(sent) {
		return []string{fmt.Sprintf("%s is %v, and %d items were sent", path, got, len(sent))}
	}
	var problems []string
	for i := range sent {
		problems = append(problems, missingAt(fmt.Sprintf("%s[%d]", path, i), sent[i], have[i])...)
	}
	return problems
}

// same compares two values that hold no others. A quantity is the same however it is written: 1000m and 1, also where
// YAML made a number of it.
func same(sent, got any) bool {
	if got == nil {
		return false
	}
	a, b := fmt.Sprint(sent), fmt.Sprint(got)
	if a == b {
		return true
	}
	one, err := resource.ParseQuantity(a)
	if err != nil {
		return false
	}
	two, err := resource.ParseQuantity(b)
	return err == nil && one.Cmp(two) == 0
}
