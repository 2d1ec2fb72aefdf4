package apiserver

import (
	"slices"
	"testing"
)

func TestMissing(t *testing.T) {
	type object = map[string]any
	for _, tc := range []struct {
		name      string
		sent, got object
		want      []string
	}{
		{"nothing was sent", object{}, object{"a": "b"}, nil},
		{"the same, and a default", object{"a": object{"b": int64(1)}}, object{"a": object{"b": 1.0, "c": true}}, nil},
		{"a field that was dropped", object{"a": object{"b": "c"}}, object{"a": object{}}, []string{".a.b is <nil>, and c was sent"}},
		{"an object that was dropped", object{"a": object{"b": "c"}}, object{}, []string{".a is not there"}},
		{"an empty one", object{"a": object{}, "l": []any{}, "n": nil}, object{}, nil},
		{"another value", object{"a": true}, object{"a": false}, []string{".a is false, and true was sent"}},
		{"an object where a value is", object{"a": object{"b": "c"}}, object{"a": "b"}, []string{".a is b, and fields were sent"}},
		{"a list", object{"a": []any{"b", object{"c": "d"}}}, object{"a": []any{"b", object{"c": "e"}}}, []string{".a[1].c is e, and d was sent"}},
		{"a shorter list", object{"a": []any{"b"}}, object{"a": []any{}}, []string{".a is [], and 1 items were sent"}},
		{"quantities", object{"a": "1000m", "b": "0.5", "c": int64(2)}, object{"a": "1", "b": "500m", "c": "2"}, nil},
		{"another quantity", object{"a": "1Gi"}, object{"a": "1G"}, []string{".a is 1G, and 1Gi was sent"}},
		{"text of a secret", object{"stringData": object{"k": "v"}}, object{"data": object{"k": "dg=="}}, nil},
		{"other text of a secret", object{"stringData": object{"k": "w"}}, object{"data": object{"k": "dg=="}}, []string{".data.k is dg==, and dw== was sent"}},
	} {
		if got := missing(tc.sent, tc.got); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}
