package engine

import (
	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/store"
)

// call is the call of a reservation, as far as its token tells it.
func (t *token) call(snapshot *policy.Snapshot) policy.Call {
	var entries []policy.Entry
	for i := range t.parts {
		p := &t.parts[i]
		key, planKey := snapshot.Keys(p.subject.Kind)
		if key == "" {
			continue
		}
		entries = append(entries, policy.Entry{Key: key, Value: p.subject.ID})
		if planKey != "" && p.plan != "" {
			entries = append(entries, policy.Entry{Key: planKey, Value: p.plan})
		}
	}
	return policy.Call{Domain: snapshot.Domain(), Descriptors: []policy.Descriptor{{Entries: entries, Amount: 1}}}
}

// addParts gives a token the subjects of a call.
func (t *token) addParts(snapshot *policy.Snapshot, sc *scratch) {
	for _, part := range partsOf(sc.resolution.Admit) {
		_, planKey := snapshot.Keys(part.Subject.Kind)
		t.parts = append(t.parts, tokenPart{
			subject: part.Subject, plan: entryOf(&sc.call, planKey), usd: part.USD, tokens: part.Tokens,
		})
	}
}

// storeParts are the token's subjects as a settlement takes them.
func (t *token) storeParts() []store.Part {
	parts := make([]store.Part, len(t.parts))
	for i, p := range t.parts {
		parts[i] = store.Part{Subject: p.subject, USD: p.usd, Tokens: p.tokens}
	}
	return parts
}
