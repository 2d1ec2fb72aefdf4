package engine

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/budget"
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

// check errs with a CostError for what is out of bounds.
func (s *Spender) check() error {
	if s.UserID == "" {
		return wrongField("user_id", "is empty: say for whom the call is")
	}
	if len(s.Subjects)+len(s.Tags) > MaxEntries {
		return wrongField("subjects", fmt.Sprintf("and tags have %d entries; at most %d together",
			len(s.Subjects)+len(s.Tags), MaxEntries))
	}
	for _, text := range []struct {
		field, value string
		most         int
	}{{"user_id", s.UserID, MaxID}, {"plan", s.Plan, MaxID}, {"model", s.Model, MaxModel}} {
		if err := checkText(text.field, text.value, text.most); err != nil {
			return err
		}
	}
	for _, entries := range []struct {
		field string
		texts map[string]string
	}{{"subjects", s.Subjects}, {"tags", s.Tags}} {
		for key, value := range entries.texts {
			if key == "" {
				return wrongField(entries.field, "has an empty key")
			}
			if err := checkText(entries.field, key, MaxID); err != nil {
				return err
			}
			if err := checkText(entries.field, value, MaxID); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkText(field, text string, most int) error {
	if len(text) > most {
		return wrongField(field, fmt.Sprintf("has %d bytes; at most %d", len(text), most))
	}
	return nil
}

// checkCount errs with a CostError for what cannot be a count of tokens.
func checkCount(field string, n int64) error {
	if n < 0 || n > MaxTokens {
		return wrongField(field, fmt.Sprintf("is %d; it must be between 0 and %d", n, int64(MaxTokens)))
	}
	return nil
}

// check errs with a CostError for what is out of bounds.
func (a *Ask) check() error {
	for _, count := range []struct {
		field string
		n     int64
	}{
		{"input_tokens", a.InputTokens}, {"cached_input_tokens", a.CachedInputTokens}, {"max_output_tokens", a.MaxOutputTokens},
	} {
		if err := checkCount(count.field, count.n); err != nil {
			return err
		}
	}
	return checkMoney("max_cost_usd", a.MaxCost)
}

func checkMoney(field string, nano int64) error {
	if nano < 0 || nano > store.MaxAmount {
		return wrongField(field, fmt.Sprintf("is %s; it must be between 0 and %s",
			budget.FormatMoney(nano), budget.FormatMoney(store.MaxAmount)))
	}
	return nil
}

// lease is a ttl as a hold takes it.
func lease(ttl time.Duration) (time.Duration, error) {
	if ttl == 0 {
		return DefaultTTL, nil
	}
	if ttl < MinTTL || ttl > MaxTTL {
		return 0, wrongField("ttl", fmt.Sprintf("is %s; it must be between %s and %s", ttl, MinTTL, MaxTTL))
	}
	return ttl.Round(time.Microsecond), nil
}

// checkUsage errs with a CostError for what is out of bounds.
func checkUsage(u *budget.Usage) error {
	if u == nil {
		return nil
	}
	for _, count := range []struct {
		field string
		n     int64
	}{
		{"usage.input_tokens", u.Input},
		{"usage.cache_read_tokens", u.CacheRead},
		{"usage.cache_write_tokens", u.CacheWrite},
		{"usage.output_tokens", u.Output},
		{"usage.reasoning_tokens", u.Reasoning},
	} {
		if err := checkCount(count.field, count.n); err != nil {
			return err
		}
	}
	return nil
}
