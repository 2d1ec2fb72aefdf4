package engine

import (
	"maps"
	"slices"

	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/store"
)

// The descriptor entries that a cost call has beside the user's and its subjects.
const (
	modelKey  = "model"
	tagPrefix = "tag."
)

// call is a spender as the policy takes it: one descriptor of one request. The user comes first: its record is the hold's.
func (s *Spender) call(snapshot *policy.Snapshot) policy.Call {
	entries := []policy.Entry{{Key: snapshot.UserKey(), Value: s.UserID}}
	if key := snapshot.PlanKey(); key != "" && s.Plan != "" {
		entries = append(entries, policy.Entry{Key: key, Value: s.Plan})
	}
	if s.Model != "" {
		entries = append(entries, policy.Entry{Key: modelKey, Value: s.Model})
	}
	for _, key := range slices.Sorted(maps.Keys(s.Subjects)) {
		entries = append(entries, policy.Entry{Key: key, Value: s.Subjects[key]})
	}
	for _, key := range slices.Sorted(maps.Keys(s.Tags)) {
		entries = append(entries, policy.Entry{Key: tagPrefix + key, Value: s.Tags[key]})
	}
	return policy.Call{Domain: snapshot.Domain(), Descriptors: []policy.Descriptor{{Entries: entries, Amount: 1}}}
}

// subject is the spender's user.
func (s *Spender) subject(snapshot *policy.Snapshot) store.Subject {
	return store.Subject{Kind: snapshot.UserTier(), ID: s.UserID}
}

func (s *Spender) addTo(d digest) {
	d.text(s.UserID)
	d.text(s.Plan)
	d.text(s.Model)
	d.texts(s.Subjects)
	d.texts(s.Tags)
}
