package rls

import (
	"context"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/budget"
	"github.com/ratelimitd/ratelimitd/internal/engine"
	"github.com/ratelimitd/ratelimitd/internal/policy"
)

// The entries of a descriptor that Envoy sends when a request's stream is done (apply_on_stream_done). A descriptor with an entry
// keyUsage asks for nothing: it reports. One report comes in several descriptors, each with one kind of usage; their hits_addend
// is the count. Kinds that the response did not tell are left out by Envoy.
const (
	keyUsage   = "usage"
	keyHold    = "hold" // the token that the answer to the request had in its metadata
	keyOutcome = "outcome"
	keyModel   = "model"
)

// The values of keyUsage.
const (
	usageEnd        = "end" // always comes, with the outcome
	usageInput      = "input_tokens"
	usageCacheRead  = "cache_read_tokens"
	usageCacheWrite = "cache_write_tokens"
	usageOutput     = "output_tokens"
	usageReasoning  = "reasoning_tokens"
	usageCost       = "cost" // in the protocol's unit of money, 1e-7 USD
	usageCacheHit   = "cache_hit"
)

// reports are the parts of a call that tell what was used.
type reports struct {
	ends []engine.StreamEnd // one per token; those without a token are one
	of   []bool             // per descriptor of the call, whether it is a report
}

// takeReports takes the reports out of a call. The descriptors that ask stay, in their order; the others
// are behind them.
func (r *reports) takeReports(call *policy.Call) {
	r.ends, r.of = r.ends[:0], r.of[:0]
	kept := 0
	for i := range call.Descriptors {
		d := &call.Descriptors[i]
		kind, isReport := usageOf(d)
		r.of = append(r.of, isReport)
		if isReport {
			r.add(readEnd(call.Domain, d, kind))
			continue
		}
		call.Descriptors[kept], call.Descriptors[i] = call.Descriptors[i], call.Descriptors[kept]
		kept++
	}
	call.Descriptors = call.Descriptors[:kept]
}

// usageOf returns the kind of usage that a descriptor reports, and whether it reports at all.
func usageOf(d *policy.Descriptor) (kind string, isReport bool) {
	for i := range d.Entries {
		if d.Entries[i].Key == keyUsage {
			return d.Entries[i].Value, true
		}
	}
	return "", false
}

func (r *reports) add(end engine.StreamEnd) {
	for i := range r.ends {
		if r.ends[i].Hold == end.Hold {
			r.ends[i].Merge(&end)
			return
		}
	}
	r.ends = append(r.ends, end)
}

// readEnd reads what one descriptor reports. A kind that is not known says nothing but that the stream is done.
func readEnd(domain string, d *policy.Descriptor, kind string) engine.StreamEnd {
	end := engine.StreamEnd{Domain: domain}
	for _, e := range d.Entries {
		switch e.Key {
		case keyUsage:
		case keyHold:
			end.Hold = e.Value
		case keyOutcome:
			end.Outcome = e.Value
		case keyModel:
			end.Model = e.Value
			end.Entries = append(end.Entries, e) // a policy may make the model a subject
		default:
			end.Entries = append(end.Entries, e)
		}
	}
	switch kind {
	case usageInput:
		end.Usage = &budget.Usage{Input: d.Amount}
	case usageCacheRead:
		end.Usage = &budget.Usage{CacheRead: d.Amount}
	case usageCacheWrite:
		end.Usage = &budget.Usage{CacheWrite: d.Amount}
	case usageOutput:
		end.Usage = &budget.Usage{Output: d.Amount}
	case usageReasoning:
		end.Usage = &budget.Usage{Reasoning: d.Amount}
	case usageCost:
		nano := d.Amount * nanoPerUnit
		end.Cost = &nano
	case usageCacheHit:
		end.CacheHit = true
	}
	return end
}

// tell has the engine settle what was reported.
func (r *reports) tell(ctx context.Context, d Decider) {
	for i := range r.ends {
		d.EndStream(ctx, &r.ends[i])
	}
}

// inStore is how long it took to settle what was reported.
func (r *reports) inStore() time.Duration {
	took := time.Duration(0)
	for i := range r.ends {
		took += r.ends[i].InStore
	}
	return took
}

// spread gives each report a bare OK among the statuses of the descriptors that asked.
func (r *reports) spread(dec *engine.Decision) {
	if len(r.ends) == 0 {
		return
	}
	asked := len(dec.Statuses)
	for range len(r.of) - asked {
		dec.Statuses = append(dec.Statuses, engine.Status{})
	}
	for i := len(r.of) - 1; i >= 0; i-- { // from the end, so that none is written over before it has moved
		if r.of[i] {
			dec.Statuses[i] = engine.Status{}
			continue
		}
		asked--
		dec.Statuses[i] = dec.Statuses[asked]
	}
}

// forget drops what a caller sent and keeps the memory.
func (r *reports) forget() {
	clear(r.ends)
	r.ends = r.ends[:0]
}
