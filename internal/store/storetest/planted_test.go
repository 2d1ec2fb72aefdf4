package storetest

import "testing"

// TestLedgerOfTheModel shows that the books of the model are right.
func TestLedgerOfTheModel(t *testing.T) {
	for seed := range uint64(3) {
		run := newLedgerRun(modelFixture(nil), seed, 3000)
		for _, wrong := range run.run() {
			t.Errorf("seed %d: %s", seed, wrong)
		}
		t.Log(run.varied())
	}
}
