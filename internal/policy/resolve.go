package policy

import (
	"errors"
	"fmt"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// What can be wrong with a call. Every error of Resolve is one of these, and the caller's fault.
var (
	// ErrTooManyChecks says that a call names more subjects than MaxChecks allows.
	ErrTooManyChecks = errors.New("too many subjects in one call")
	// ErrOwnLimit says that the limit that a descriptor brought is out of bounds.
	ErrOwnLimit = errors.New("the descriptor's own limit is out of bounds")
)

// Resolve tells in out which checks a call makes. It allocates nothing but the growth of out's slices, unless a
// descriptor brings its own limit.
//
// An entry whose key is a subject's key names that subject; other keys say nothing. One subject is one check of requests, by
// the largest amount of the descriptors that name it; so is the global tier, by the largest of all that match. A call with
// a hold has a check more for each of the other units that the subject has limits of, by the amounts of the hold. What is
// given back is apart: it makes checks of its own, of requests alone. A descriptor matches when it names a subject that has
// limits to check or, where the global tier has some, any subject.
func (s *Snapshot) Resolve(call *Call, known Overrides, out *Resolution) error {
	ours := call.Domain == s.domain
	out.Admit, out.Refund, out.Of = out.Admit[:0], out.Refund[:0], out.Of[:0]
	admit, refund := side{checks: out.Admit}, side{checks: out.Refund}
	if call.Hold != nil {
		admit = side{checks: out.subjects[:0], hold: call.Hold}
	}
	for i := range call.Descriptors {
		descriptor := &call.Descriptors[i]
		var (
			named Named
			err   error
		)
		switch {
		case !ours: // a domain that the policy does not know
		case descriptor.Refund:
			named.Refund, err = s.resolveDescriptor(descriptor, known, &refund)
		default:
			named.Admit, err = s.resolveDescriptor(descriptor, known, &admit)
		}
		if err != nil {
			return err
		}
		out.Of = append(out.Of, named)
	}
	admit.onlyLook()
	refund.leaveOut(out.Of)
	if err := s.resolveGlobal(known, &admit); err != nil {
		return err
	}
	if err := s.resolveGlobal(known, &refund); err != nil {
		return err
	}
	out.Refund = refund.checks
	spreadGlobal(call.Descriptors, &admit, &refund, out.Of)
	if call.Hold == nil {
		out.Admit = admit.checks
	} else {
		out.subjects = admit.checks
		out.spreadUnits(call.Hold)
	}
	return nil
}

// side collects the checks of one direction: those that take, or those that give back.
type side struct {
	checks []Check
	hold   *Hold // nil for requests alone
	named  bool  // a descriptor named a subject, with limits or without
	amount int64 // the largest amount of the descriptors that named one
	global uint64
}

// bare marks, until the global tier is resolved, a descriptor whose subjects all have no limits of their own. The bit
// cannot be a check's before then: the last place belongs to the global tier.
const bare = uint64(1) << (MaxChecks - 1)

// resolveDescriptor adds a descriptor's subjects to its side and returns their bits.
func (s *Snapshot) resolveDescriptor(d *Descriptor, known Overrides, to *side) (uint64, error) {
	var bits uint64
	for i := range d.Entries {
		t := s.tierOfKey(d.Entries[i].Key)
		if t == nil {
			continue
		}
		first := bits == 0
		bits |= bare
		at, err := to.add(t, d, d.Entries[i].Value, known, first)
		if err != nil {
			return 0, err
		}
		bits |= 1 << at
	}
	if bits != 0 {
		to.amount = max(to.amount, d.Amount)
		to.named = true
	}
	return bits, nil
}

// tierOfKey finds the tier whose subjects a descriptor key names; nil if none.
func (s *Snapshot) tierOfKey(key string) *tier {
	for i := range s.tiers {
		if s.tiers[i].key == key {
			return &s.tiers[i]
		}
	}
	return nil
}

// noLimits makes what a subject without request limits is asked for: nothing is taken and nothing denies, but the store
// says when the subject has been given an override.
func noLimits() *Limits {
	return newLimits("", []Limit{{
		Name: "none", Unit: store.Requests, Max: store.MaxRequests, Period: time.Minute, Shadow: true, Ordinal: -1,
	}})
}

// add makes or widens the check of a subject and returns its index. A check without limits keeps the amount asked for,
// since a later descriptor may bring limits.
func (to *side) add(t *tier, d *Descriptor, id string, known Overrides, first bool) (int, error) {
	entry := t.planEntry(d)
	at := to.find(t.name, id)
	if at < 0 {
		subject := store.Subject{Kind: t.name, ID: id}
		version, override := ask(known, subject)
		limits, origin := t.choose(id, entry, override)
		if !limits.asks(to.hold) && (!first || d.Own == nil) {
			limits, origin = t.none, fromNowhere
		}
		if most := to.most(); len(to.checks) == most {
			return 0, fmt.Errorf("%w: at most %d", ErrTooManyChecks, most)
		}
		at = len(to.checks)
		to.checks = append(to.checks, Check{
			Check: store.Check{Subject: subject, Unit: store.Requests, Amount: d.Amount, Override: version},
			Tier:  t.name, OnStoreFailure: t.onStoreFailure,
		})
		to.checks[at].use(limits, origin)
	} else if limits := t.trusted(entry); limits != nil && to.checks[at].origin < fromEntry && limits.asks(to.hold) {
		to.checks[at].use(limits, fromEntry)
	}
	check := &to.checks[at]
	check.Amount = max(check.Amount, d.Amount)
	if first && d.Own != nil {
		return at, check.own(d.Own)
	}
	return at, nil
}

// most is how many subjects a side may have. The last place is the global tier's.
func (to *side) most() int {
	if to.hold != nil {
		return MaxHeld
	}
	return MaxChecks - 1
}

// onlyLook has the checks that no descriptor brought limits for take nothing.
func (to *side) onlyLook() {
	for i := range to.checks {
		if to.checks[i].origin == fromNowhere {
			to.checks[i].Amount = 0
		}
	}
}

// leaveOut removes the checks that no descriptor brought limits for, and their bits: they have nothing to give back.
func (to *side) leaveOut(of []Named) {
	kept := 0
	for i := range to.checks {
		if to.checks[i].origin != fromNowhere {
			to.checks[kept] = to.checks[i]
			kept++
			continue
		}
		below := uint64(1)<<kept - 1
		for j := range of {
			subjects := of[j].Refund &^ bare
			of[j].Refund = of[j].Refund&bare | subjects&below | subjects>>1&^below
		}
	}
	to.checks = to.checks[:kept]
}

// find returns the index of a subject's check, -1 if there is none yet.
func (to *side) find(tier, id string) int {
	for i := range to.checks {
		if to.checks[i].Subject.ID == id && to.checks[i].Tier == tier {
			return i
		}
	}
	return -1
}

// planEntry returns the plan that a descriptor names for a tier; empty if none, or if the tier trusts none.
func (t *tier) planEntry(d *Descriptor) string {
	if !t.trustPlan {
		return ""
	}
	for i := range d.Entries {
		if d.Entries[i].Key == t.planKey {
			return d.Entries[i].Value
		}
	}
	return ""
}

// use makes the check ask under a set of limits.
func (c *Check) use(limits *Limits, from origin) {
	c.Limits, c.Named, c.Check.Limits, c.origin = limits, limits.Requests, limits.StoreRequests, from
}

// own replaces the check's request limits by the one that a descriptor brought. The own limits of several descriptors
// of one subject hold together; of two for one period, the smaller.
func (c *Check) own(limit *Limit) error {
	if limit.Max < 0 || limit.Max > store.MaxRequests || limit.Period < store.MinPeriod || limit.Period > store.MaxPeriod {
		return fmt.Errorf("%w: %d per %s; at most %d, and a period of %s to %s",
			ErrOwnLimit, limit.Max, limit.Period, int64(store.MaxRequests), store.MinPeriod, store.MaxPeriod)
	}
	added := Limit{
		Name: limit.Name, Unit: store.Requests, Max: limit.Max, Period: limit.Period, Shadow: limit.Shadow, Ordinal: -1,
	}
	if added.Name == "" {
		added.Name = formatPeriod(added.Period)
	}
	requests := []Limit{added}
	if c.origin == fromCall {
		for _, other := range c.Limits.Requests {
			switch {
			case other.Period != added.Period:
				requests = append(requests, other)
			case other.Max < added.Max:
				requests[0] = other
			}
		}
	}
	if len(requests) > store.MaxLimits {
		return fmt.Errorf("%w: one subject is given %d of them; at most %d", ErrOwnLimit, len(requests), store.MaxLimits)
	}
	limits := *c.Limits
	limits.Plan = overridePlan
	limits.Requests, limits.StoreRequests = windows(requests)
	c.use(&limits, fromCall)
	return nil
}

// resolveGlobal adds the global tier's check to a side where a descriptor named a subject.
func (s *Snapshot) resolveGlobal(known Overrides, to *side) error {
	if !to.named {
		return nil
	}
	subject := store.Subject{Kind: GlobalTier, ID: ""}
	version, override := ask(known, subject)
	limits, origin := s.global.choose("", "", override)
	if !limits.asks(to.hold) {
		return nil
	}
	to.global = 1 << len(to.checks)
	to.checks = append(to.checks, Check{
		Check: store.Check{Subject: subject, Unit: store.Requests, Amount: to.amount, Override: version},
		Tier:  GlobalTier, OnStoreFailure: s.global.onStoreFailure,
	})
	to.checks[len(to.checks)-1].use(limits, origin)
	return nil
}

// spreadGlobal gives every descriptor that named a subject the bit of the global tier's check in place of the mark.
func spreadGlobal(descriptors []Descriptor, admit, refund *side, of []Named) {
	for i := range of {
		bits, global := &of[i].Admit, admit.global
		if descriptors[i].Refund {
			bits, global = &of[i].Refund, refund.global
		}
		if *bits&bare != 0 {
			*bits = *bits&^bare | global
		}
	}
}

// ask returns what is known of a subject's stored override.
func ask(known Overrides, subject store.Subject) (int64, *Override) {
	if known == nil {
		return 0, nil
	}
	return known(subject)
}
