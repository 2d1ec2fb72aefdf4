package redis

import (
	"errors"
	"testing"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
	"github.com/ratelimitd/ratelimitd/test/harness"
)

// holdRequest asks to hold 5 USD and a slot of a subject.
func holdRequest(s store.Subject, id string) *store.Request {
	return &store.Request{
		Deadline: time.Now().Add(harness.Patience),
		Hold:     &store.Hold{ID: id, Lease: time.Minute, Slot: true, USD: 5},
		Checks: []store.Check{
			{Subject: s, Unit: store.Requests, Amount: 1, Limits: hourly(100)},
			{Subject: s, Unit: store.USD, Amount: 5, Limits: hourly(100)},
			{Subject: s, Unit: store.Concurrent, Amount: 1, Limits: []store.Limit{{Max: 10}}},
		},
	}
}

// TestADamagedHoldAnswersForItselfAlone puts what is not ours under each kind of key that a hold has.
func TestADamagedHoldAnswersForItselfAlone(t *testing.T) {
	server := harness.Redis(t)
	s := openStore(t, Options{Addrs: []string{server.Addr}})
	for _, tt := range []struct {
		name   string
		damage func(subject string) (key string, value any)
	}{
		{"a ledger of no version", func(k string) (string, any) { return k + "u", "x" }},
		{"a log in a ledger's place", func(k string) (string, any) { return k + "u", string(make([]byte, 300)) }},
		{"a ledger cut off in its windows", func(k string) (string, any) { return k + "u", "\x02\x04\x01" + string(make([]byte, 90)) }},
		{"a ledger with more entries than room", func(k string) (string, any) {
			return k + "u", "\x02\x04\x00" + string(make([]byte, 7)) + "\x00\x00\x00\x01\x00\x00\x00\x02" + string(make([]byte, 300))
		}},
		{"a ledger whose entries are missing", func(k string) (string, any) {
			return k + "u", "\x02\x04\x00" + string(make([]byte, 7)) + "\x00\x00\x00\x09\x00\x00\x00\x09" + string(make([]byte, 188))
		}},
		{"a list in a ledger's place", func(k string) (string, any) { return k + "u", []any{1} }},
		{"a list in the open holds' place", func(k string) (string, any) { return k + "h", []any{1} }},
		{"a text in the open holds' place", func(k string) (string, any) { return k + "h", "x" }},
		{"a record that is too short", func(k string) (string, any) { return k + "h:new", "x" }},
		{"a record without its parts", func(k string) (string, any) { return k + "h:new", string(make([]byte, 40)) + "\xff" }},
		{"a list in a record's place", func(k string) (string, any) { return k + "h:new", []any{1} }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bad, good := store.Subject{Kind: "user", ID: "bad " + tt.name}, store.Subject{Kind: "user", ID: "good " + tt.name}
			var ans store.Answer
			for _, subject := range []store.Subject{bad, good} {
				if err := s.Admit(t.Context(), holdRequest(subject, "old"), &ans); err != nil || !ans.Admitted {
					t.Fatal(ans, err)
				}
			}
			key, value := tt.damage(subjectKey(bad))
			if err := server.Client.Del(t.Context(), key).Err(); err != nil {
				t.Fatal(err)
			}
			put := server.Client.Set(t.Context(), key, value, 0).Err
			if list, ok := value.([]any); ok {
				put = server.Client.RPush(t.Context(), key, list...).Err
			}
			if err := put(); err != nil {
				t.Fatal(err)
			}
			for range 2 { // what is not ours is not made ours by asking
				if err := s.Admit(t.Context(), holdRequest(bad, "new"), &ans); !errors.Is(err, store.ErrCorrupt) {
					t.Errorf("a request on it: %v, want ErrCorrupt", err)
				}
			}
			st := &store.Settlement{
				ID: "new", USD: 1, Book: time.Now().UnixMicro(), Parts: []store.Part{{Subject: bad, USD: time.Hour}},
			}
			if err := s.Settle(t.Context(), st, new(store.Settled)); !errors.Is(err, store.ErrCorrupt) {
				t.Errorf("a settlement on it: %v, want ErrCorrupt", err)
			}
			if err := s.Admit(t.Context(), holdRequest(good, "new"), &ans); err != nil || ans.States[1].Used != 10 || ans.States[2].Used != 2 {
				t.Errorf("a request beside it: %+v, %v", ans, err)
			}
			if err := s.Settle(t.Context(), &store.Settlement{ID: "old", USD: 1, Parts: []store.Part{{Subject: good}}}, new(store.Settled)); err != nil {
				t.Errorf("a settlement beside it: %v", err)
			}
		})
	}
}
