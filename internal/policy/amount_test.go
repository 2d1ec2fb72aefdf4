package policy

import (
	"testing"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

func TestAnAmountIsWrittenInItsUnit(t *testing.T) {
	for unit, want := range map[store.Unit]string{
		store.Requests: "5200000000", store.Tokens: "5200000000", store.Concurrent: "5200000000", store.USD: "5.2",
	} {
		if got := FormatAmount(unit, 5_200_000_000); got != want {
			t.Errorf("5200000000 of %s is written as %s, want %s", unit, got, want)
		}
	}
}
