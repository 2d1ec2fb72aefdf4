package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// The runs that are checked for linearizability: several short ones, each on a subject of its own, since the check takes
// time that grows fast with what happens at once.
const (
	linearRuns    = 12
	linearClients = 6
	linearCalls   = 40 // of each client
	linearIDs     = 24
	linearMoney   = 100
	linearSlots   = 6
	linearLong    = 20 * time.Second // for the check of one run
)

// linearCall is one call of a run.
type linearCall struct {
	do     linearDo
	id     int
	amount int64
}

// linearDo is what a call does.
type linearDo uint8

const (
	linearReserve linearDo = iota
	linearSettle
	linearRelease
	linearLook
)

// linearAnswer is the part of an answer that the order of the calls decides.
type linearAnswer struct {
	admitted          bool // or settled
	repeat            bool
	status            store.HoldStatus
	used, held, slots int64 // of a request
	booked            int64 // of a settlement
	err               error // of the contract's
}

// linearState is the state of one subject, as a call sees it. It is a value: no call changes another's.
type linearState struct {
	status [linearIDs]store.HoldStatus
	amount [linearIDs]int64 // held, or booked once it has ended
}

// sums are what is used and held of money, and the slots in use.
func (s *linearState) sums() (used, held, slots int64) {
	for id, status := range s.status {
		used += s.amount[id]
		if status == store.Active {
			held += s.amount[id]
			slots++
		}
	}
	return used, held, slots
}

// linearStep is the contract, one call after the other: what a call is answered in a state, and the state after it.
func linearStep(s linearState, c linearCall) (linearAnswer, linearState) {
	known := s.status[c.id]
	var ans linearAnswer
	switch c.do {
	case linearReserve:
		used, _, slots := s.sums()
		switch {
		case known != store.NoHold:
			ans.repeat = true
		case used+c.amount <= linearMoney && slots+1 <= linearSlots:
			ans.admitted = true
			s.status[c.id], s.amount[c.id] = store.Active, c.amount
		}
		ans.status = s.status[c.id]
		ans.used, ans.held, ans.slots = s.sums()
	case linearLook:
		ans.used, ans.held, ans.slots = s.sums()
		ans.admitted = ans.used+1 <= linearMoney && ans.slots+1 <= linearSlots
	case linearSettle, linearRelease:
		to, amount := store.Closed, c.amount
		if c.do == linearRelease {
			to, amount = store.Released, 0
		}
		switch {
		case known == store.NoHold:
			return linearAnswer{err: store.ErrNoHold}, s
		case known == store.Active:
			s.status[c.id], s.amount[c.id] = to, amount
		case known != to || s.amount[c.id] != amount:
			return linearAnswer{err: store.ErrMismatch}, s
		default:
			ans.repeat = true
		}
		ans.admitted, ans.status, ans.booked = true, to, amount
	}
	return ans, s
}

// linearModel is the contract for the checker.
func linearModel() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return linearState{} },
		Step: func(state, input, output any) (bool, any) {
			s, isState := state.(linearState)
			c, isCall := input.(linearCall)
			want, next := linearStep(s, c)
			return isState && isCall && output == want, next
		},
	}
}

// linear shows that what many clients are told at once of one subject's holds could have been told one after the other.
func linear(t *testing.T, f *Fixture) {
	t.Helper()
	seed := rand.Uint64()
	f.Set(epoch)
	admitted, denied := 0, 0
	for n := range uint64(linearRuns) {
		history, err := linearRun(f, seed, n)
		if err != nil {
			t.Fatalf("seed %d, run %d: %v", seed, n, err)
		}
		if result := porcupine.CheckOperationsTimeout(linearModel(), history, linearLong); result != porcupine.Ok {
			t.Errorf("seed %d, run %d: the answers are no order's: the check says %s", seed, n, result)
		}
		for _, op := range history {
			if ans, is := op.Output.(linearAnswer); is && ans.admitted {
				admitted++
			} else {
				denied++
			}
		}
	}
	if admitted < linearRuns || denied < linearRuns {
		t.Errorf("seed %d: %d calls passed and %d did not: too few to prove anything", seed, admitted, denied)
	}
}

// linearRun makes one run and returns its history.
func linearRun(f *Fixture, seed, n uint64) ([]porcupine.Operation, error) {
	var (
		mu      sync.Mutex
		group   sync.WaitGroup
		history []porcupine.Operation
		failed  error
	)
	subject := store.Subject{Kind: "user", ID: fmt.Sprintf("linear %d of %d", n, seed)}
	begun := time.Now()
	for client := range linearClients {
		s := f.Another()
		group.Go(func() {
			random := rand.New(rand.NewPCG(seed, n<<8|uint64(client)))
			for range linearCalls {
				c := drawLinear(random)
				op := porcupine.Operation{ClientId: client, Input: c, Call: time.Since(begun).Nanoseconds()}
				ans, err := c.make(s, subject)
				op.Output, op.Return = ans, time.Since(begun).Nanoseconds()
				mu.Lock()
				history = append(history, op)
				if err != nil {
					failed = err
				}
				mu.Unlock()
			}
		})
	}
	group.Wait()
	return history, failed
}

// drawLinear draws a call.
func drawLinear(random *rand.Rand) linearCall {
	c := linearCall{id: random.IntN(linearIDs), amount: 5 + random.Int64N(3)*10}
	switch kind := random.IntN(20); {
	case kind < 9:
		c.do = linearReserve
	case kind < 15:
		c.do = linearSettle
		c.amount = random.Int64N(3) * 9
	case kind < 17:
		c.do = linearRelease
	default:
		c.do = linearLook
	}
	return c
}

// make makes the call.
func (c linearCall) make(s store.Store, subject store.Subject) (linearAnswer, error) {
	checks := call(money(subject, c.amount, lim(linearMoney, day)), slot(subject, linearSlots))
	var err error
	var out linearAnswer
	id := fmt.Sprintf("id %d", c.id)
	switch c.do {
	case linearReserve, linearLook:
		req := &store.Request{Checks: checks, Hold: holdOf(id, checks)}
		req.Hold.Lease = store.MaxLease
		if c.do == linearLook {
			req = &store.Request{Checks: looking(checks), Look: true}
		}
		ans := new(store.Answer)
		if err = s.Admit(context.Background(), req, ans); err == nil {
			out = linearAnswer{
				admitted: ans.Admitted && !ans.Hold.Repeat, repeat: ans.Hold.Repeat, status: ans.Hold.Status,
				used: ans.States[0].Used, held: ans.Held[0], slots: ans.States[1].Used,
			}
		}
	case linearSettle, linearRelease:
		st := &store.Settlement{
			Parts: partsOf(checks), ID: id, USD: c.amount, Fingerprint: uint64(c.amount) + 1, Release: c.do == linearRelease,
		}
		if st.Release {
			st.USD, st.Fingerprint = 0, 1000
		}
		var got store.Settled
		if err = s.Settle(context.Background(), st, &got); err == nil {
			out = linearAnswer{admitted: true, repeat: got.Repeat, status: got.Status, booked: got.USD}
		}
	}
	for _, known := range []error{store.ErrNoHold, store.ErrMismatch} {
		if errors.Is(err, known) {
			return linearAnswer{err: known}, nil
		}
	}
	return out, err
}
