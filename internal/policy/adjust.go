package policy

import (
	"slices"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// Adjustments are the limits that the process's environment sets in place of those of whatever policy is loaded. Nil
// leaves the policy's. The limits of a user belong to the default plan of the user's tier; a limit that the policy does
// not have is added.
type Adjustments struct {
	PerMinute     *int64 // RATE_LIMIT_PER_MINUTE, requests of a user
	PerHour       *int64 // RATE_LIMIT_PER_HOUR, requests of a user
	PerDay        *int64 // RATE_LIMIT_PER_DAY, requests of a user
	UserDailyCost *int64 // USER_DAILY_COST_LIMIT, nano-USD

	GlobalConcurrent *int64 // GLOBAL_CONCURRENT_LIMIT, slots
	GlobalHourly     *int64 // GLOBAL_HOURLY_LIMIT, requests
	GlobalDailyCost  *int64 // GLOBAL_DAILY_COST_LIMIT, nano-USD
}

// adjustment is one limit of the environment.
type adjustment struct {
	setting string
	amount  *int64
	limit   Limit
}

// ofUser returns what is set for the default plan.
func (a Adjustments) ofUser() []adjustment {
	return []adjustment{
		{"RATE_LIMIT_PER_MINUTE", a.PerMinute, Limit{Name: "minute", Unit: store.Requests, Period: time.Minute}},
		{"RATE_LIMIT_PER_HOUR", a.PerHour, Limit{Name: "hour", Unit: store.Requests, Period: time.Hour}},
		{"RATE_LIMIT_PER_DAY", a.PerDay, Limit{Name: "day", Unit: store.Requests, Period: day}},
		{"USER_DAILY_COST_LIMIT", a.UserDailyCost, Limit{Name: "day", Unit: store.USD, Period: day}},
	}
}

// ofGlobal returns what is set for the global tier.
func (a Adjustments) ofGlobal() []adjustment {
	return []adjustment{
		{"GLOBAL_CONCURRENT_LIMIT", a.GlobalConcurrent, Limit{Name: "concurrent", Unit: store.Concurrent}},
		{"GLOBAL_HOURLY_LIMIT", a.GlobalHourly, Limit{Name: "hour", Unit: store.Requests, Period: time.Hour}},
		{"GLOBAL_DAILY_COST_LIMIT", a.GlobalDailyCost, Limit{Name: "day", Unit: store.USD, Period: day}},
	}
}

// adjust puts the limits of the environment into a document.
func (r *report) adjust(doc *document, settings Adjustments) {
	if plan := r.userPlan(doc, settings); plan != nil {
		plan.limits = r.adjustLimits(plan.limits, settings.ofUser())
	}
	doc.global.limits = r.adjustLimits(doc.global.limits, settings.ofGlobal())
}

// userPlan finds the default plan of the user's tier; nil if there is none, which is a problem if it is to be changed.
func (r *report) userPlan(doc *document, settings Adjustments) *planText {
	if len(doc.tiers) == 0 {
		return nil
	}
	tier := doc.tiers[userTier(doc.tiers)]
	for i := range doc.plans {
		if doc.plans[i].name == tier.defaultPlan {
			return &doc.plans[i]
		}
	}
	for _, set := range settings.ofUser() {
		if set.amount != nil && tier.defaultPlan == "" {
			at := tier.place
			at.field = join(at.field, "default_plan")
			r.wrong(at, "is missing, so that %s has no plan to change; write a default_plan, or unset %s", set.setting, set.setting)
		}
	}
	return nil
}

// adjustLimits replaces or adds limits.
func (r *report) adjustLimits(limits []limitText, settings []adjustment) []limitText {
	for _, set := range settings {
		if set.amount == nil {
			continue
		}
		at := place{field: set.setting}
		if *set.amount < 0 || *set.amount > largest(set.limit.Unit) {
			r.wrong(at, "%s is out of bounds; set it to 0 or more, at most %s",
				amountText(set.limit.Unit, *set.amount), amountText(set.limit.Unit, largest(set.limit.Unit)))
			continue
		}
		added := limitText{place: at, Limit: set.limit, setting: set.setting}
		added.Max, added.Ordinal = *set.amount, -1
		limits = r.replaceLimit(limits, added)
	}
	return limits
}

// replaceLimit puts a limit in the place of the one of its unit and period, a sliding one before one of the calendar, else at
// the end.
func (r *report) replaceLimit(limits []limitText, added limitText) []limitText {
	at := slices.IndexFunc(limits, func(old limitText) bool { return old.Unit == added.Unit && old.Period == added.Period })
	if at < 0 {
		at = slices.IndexFunc(limits, func(old limitText) bool {
			return old.Unit == added.Unit && old.Calendar != nil && wordPeriod(old.Calendar.Unit().String()) == added.Period
		})
	}
	if at >= 0 {
		old := &limits[at]
		if old.Shadow {
			r.warn(old.place, "is a shadow, so that the amount of %s is watched and not enforced; leave shadow out to enforce it",
				added.setting)
		}
		old.Max, old.setting = added.Max, added.setting
		return limits
	}
	if countUnit(limits, added.Unit) == store.MaxLimits {
		r.wrong(added.place, "is one limit of %s too many; the policy has %d already, the most: leave one out, or unset it",
			added.Unit, store.MaxLimits)
	}
	for i := range limits {
		if limits[i].Unit == added.Unit && limits[i].Name == added.Name {
			r.wrong(limits[i].place, "has the name %s, which the limit of %s needs; write another name",
				quoted(added.Name), added.setting)
		}
	}
	return append(limits, added)
}

// amountText writes an amount for a person.
func amountText(unit store.Unit, amount int64) string {
	text := FormatAmount(unit, amount)
	if unit == store.USD {
		text += " USD"
	}
	return text
}

// userTier returns the index of the tier of the single user: the one called "user", else the first.
func userTier(tiers []tierText) int {
	for i := range tiers {
		if tiers[i].name == "user" {
			return i
		}
	}
	return 0
}
