package memory

import (
	"strings"
	"testing"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

func TestLongKeysAreShortAndTheirOwn(t *testing.T) {
	long := strings.Repeat("x", maxIDBytes+1)
	digest := keyOf(store.Subject{Kind: "user", ID: long})
	if len(digest.id) > maxIDBytes || len(digest.kind) > maxIDBytes {
		t.Errorf("the key of a long id is kept in %d bytes, want at most %d", len(digest.id), maxIDBytes)
	}
	for what, other := range map[string]store.Subject{
		"the id that is its digest":     {Kind: digest.kind, ID: digest.id},
		"the same id of another kind":   {Kind: "org", ID: long},
		"a kind and id split elsewhere": {Kind: "userx", ID: long[1:] + long},
		"a longer id":                   {Kind: "user", ID: long + "x"},
		"a shorter id":                  {Kind: "user", ID: long[1:]},
		"a long kind":                   {Kind: "user" + long, ID: ""},
	} {
		if keyOf(other) == digest {
			t.Errorf("%s has the key of the long id", what)
		}
	}
}
