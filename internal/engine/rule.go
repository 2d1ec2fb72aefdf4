package engine

import (
	"cmp"
	"strconv"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/store"
)

// A call by the rate limit API takes a hold if a descriptor that takes hits has an entry request_id. The entry's value is not
// read: a client may choose it. Each such call is a hold of its own, under a random id. Further entries of the call may say what
// the request is like; they come from headers, so whatever is not what it should be counts as left out.
const (
	inputTokensKey     = "input_tokens"
	maxOutputTokensKey = "max_output_tokens"
)

// holdByRule makes sc.call hold what the policy's rule says, if it asks for a hold, and returns what its token will say; nil if it
// asks for none.
func (e *Engine) holdByRule(sc *scratch) *token {
	if !asksForHold(&sc.call) {
		return nil
	}
	snapshot := e.opt.Policy()
	cost := snapshot.Cost()
	rule := &cost.Hold
	model := entryOf(&sc.call, modelKey)
	if len(model) > MaxModel {
		model = ""
	}
	t := &token{
		id: randomID(), model: cmp.Or(model, rule.Model),
		input: countOf(&sc.call, inputTokensKey, rule.InputTokens),
	}
	output := countOf(&sc.call, maxOutputTokensKey, rule.MaxOutputTokens)
	d := demand{ask: Ask{InputTokens: t.input, MaxOutputTokens: output, MaxCost: rule.USD}}
	sc.model = nameOf(snapshot, t.model, time.Now().UnixMicro())
	if rule.USD == 0 {
		d.rate = e.rateByRule(snapshot, t.model, rule.Model)
		sc.model = d.rate.name
	}
	sc.wants = policy.Hold{USD: d.usd(output), Tokens: d.tokens(output), Slot: true}
	sc.call.Hold = &sc.wants
	sc.hold = store.Hold{
		ID: string(t.id[:]), Lease: cost.Lease, Slot: true, USD: sc.wants.USD, Tokens: sc.wants.Tokens,
		ReleaseOnExpiry: cost.ReleaseOnExpiry,
	}
	return t
}

// rateByRule is the price of the model that a call names. If there is none the hold is priced as the rule's own model: the name may
// come from the client, who must not gain by a wrong one, and a call cannot be refused here with a reason. What it really
// cost is settled later.
func (e *Engine) rateByRule(snapshot *policy.Snapshot, model, ruled string) rate {
	now := time.Now().UnixMicro()
	r := e.rateOf(snapshot, model, now)
	if r.price == nil && ruled != "" && model != ruled {
		r = e.rateOf(snapshot, ruled, now)
	}
	return r
}

// asksForHold reports whether a descriptor that takes hits names a request.
func asksForHold(call *policy.Call) bool {
	for i := range call.Descriptors {
		d := &call.Descriptors[i]
		if d.Refund || d.Amount == 0 {
			continue
		}
		for j := range d.Entries {
			if d.Entries[j].Key == policy.RequestIDKey {
				return true
			}
		}
	}
	return false
}

// countOf is the count of tokens that a call's entry gives in decimal; otherwise is what stands for one that is left out.
func countOf(call *policy.Call, key string, otherwise int64) int64 {
	text := entryOf(call, key)
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil || n > MaxTokens {
		return otherwise
	}
	return int64(n)
}

// tokenByRule is the token of what a call holds now, or would hold if the store could be asked; empty if it was denied or nothing
// applies to it. It is empty, too, if the call's subjects make it longer than MaxToken: the hold then ends by its lease.
func (e *Engine) tokenByRule(sc *scratch, t *token, dec *Decision) string {
	switch {
	case dec.Denied:
		return ""
	case dec.Mode == Stored:
		t.at = sc.answer.Hold.At
		e.purses.held(sc.model, sc.answer.Hold.USD)
	case dec.Mode == FailedOpen:
		t.at, t.unheld = time.Now().UnixMicro(), true
		t.usd, t.tokens = sc.wants.USD, sc.wants.Tokens
	default:
		return ""
	}
	t.addParts(e.opt.Policy(), sc)
	return t.encode()
}

// entryOf returns the value of a call's first entry of a key; empty if there is none.
func entryOf(call *policy.Call, key string) string {
	if key == "" {
		return ""
	}
	for i := range call.Descriptors {
		for _, entry := range call.Descriptors[i].Entries {
			if entry.Key == key {
				return entry.Value
			}
		}
	}
	return ""
}
