package policy

import (
	"slices"
	"strconv"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// document is a policy file as it was written, before the settings of the environment and before it is made fast.
type document struct {
	domain    string
	tiers     []tierText
	plans     []planText
	overrides []listedText
	global    globalText
	cost      costText
}

// tierText is one subject of the file.
type tierText struct {
	place

	name, key, planKey, defaultPlan string
	trustPlan                       bool
	onStoreFailure                  OnStoreFailure
}

// planText is one plan of the file.
type planText struct {
	place

	name   string
	limits []limitText
}

// limitText is one limit of the file, or of the environment.
type limitText struct {
	place
	Limit

	setting string // the environment variable that set it; empty for the file
}

// listedText is one entry of the policy's list; plan or limits.
type listedText struct {
	place

	tier, plan string
	ids        []*value
	limits     []limitText
}

// globalText is the global tier of the file.
type globalText struct {
	place

	limits         []limitText
	onStoreFailure OnStoreFailure
}

// readDocument reads a policy file into a document. What is wrong goes to the report; then the document is of no use. Open
// reads a file that the policy names.
func (r *report) readDocument(data []byte, open opener) *document {
	if len(data) > maxFileBytes {
		r.wrong(place{}, "is larger than 1 MiB; keep long lists as overrides in the store")
		return nil
	}
	root := r.readYAML(data, policyShape())
	doc := &document{domain: root.get("domain").str()}
	plans, subjects := root.get("plans"), root.get("subjects")
	for _, name := range plans.order() {
		if name == GlobalTier || name == overridePlan {
			r.wrong(plans.places[name], "is a name that ratelimitd uses itself; name the plan otherwise")
		}
		doc.plans = append(doc.plans, planText{
			place: plans.places[name], name: name, limits: r.readLimits(plans.get(name).get("limits")),
		})
	}
	for _, name := range subjects.order() {
		doc.tiers = append(doc.tiers, r.readTier(name, subjects))
	}
	r.checkKeys(doc.tiers)
	for _, item := range root.get("overrides").list() {
		doc.overrides = append(doc.overrides, r.readListed(item))
	}
	if global := root.get("global"); global != nil {
		doc.global = globalText{
			place: global.place, limits: r.readLimits(global.get("limits")), onStoreFailure: readFailure(global),
		}
	}
	doc.cost = r.readCost(root.get("cost"), open)
	// Where the plans themselves are wrong, that they are unknown is no news.
	if plans != nil || !root.has("plans") {
		r.checkPlans(doc, subjects, root.get("overrides"))
	}
	r.checkListed(doc, subjects)
	return doc
}

// order returns the names of the fields in the order of the file.
func (v *value) order() []string {
	if v == nil {
		return nil
	}
	return v.names
}

// readTier reads one subject.
func (r *report) readTier(name string, subjects *value) tierText {
	subject := subjects.get(name)
	if name == GlobalTier {
		r.wrong(subjects.places[name], "is the tier of the system as a whole; write its limits under global at the top")
	}
	tier := tierText{
		place: subjects.places[name], name: name, key: subject.get("key").str(), planKey: subject.get("plan_key").str(),
		defaultPlan: subject.get("default_plan").str(), trustPlan: subject.get("trust_plan").yes(),
		onStoreFailure: readFailure(subject),
	}
	if tier.trustPlan && !subject.has("plan_key") {
		r.wrong(subject.at("trust_plan"), "trusts no entry; write which one names the plan, as plan_key: plan")
	}
	return tier
}

// checkKeys reports descriptor keys that would mean two things.
func (r *report) checkKeys(tiers []tierText) {
	owner := map[string]string{}
	claim := func(tier tierText, field, key string) {
		if key == "" {
			return
		}
		if other, taken := owner[key]; taken {
			at := tier.place
			at.field = join(at.field, field)
			r.wrong(at, "%s is already %s; write another key", quoted(key), other)
			return
		}
		owner[key] = "the " + field + " of " + tier.name
	}
	for _, tier := range tiers {
		claim(tier, "key", tier.key)
	}
	for _, tier := range tiers {
		claim(tier, "plan_key", tier.planKey)
	}
}

// readFailure reads what a tier answers when the store is lost.
func readFailure(tier *value) OnStoreFailure {
	if tier.get("on_store_failure").str() == Deny.String() {
		return Deny
	}
	return Allow
}

// readListed reads one entry of the policy's list.
func (r *report) readListed(item *value) listedText {
	listed := listedText{
		place: item.place, tier: item.get("subject").str(), plan: item.get("plan").str(),
		limits: r.readLimits(item.get("limits")),
	}
	if id := item.get("id"); id.str() != "" {
		listed.ids = []*value{id}
	} else {
		listed.ids = id.list()
	}
	return listed
}

// readLimits reads the limits of one plan, and reports two for one unit and period, or of one name.
func (r *report) readLimits(list *value) []limitText {
	limits := []limitText{}
	for _, item := range list.list() {
		text := item
		if item.fields != nil {
			if text = item.get("limit"); text == nil {
				continue
			}
		}
		limit, err := parseLimit(text.text)
		if err != nil {
			continue // the shape has reported it
		}
		if !r.readWindow(item, text.text, &limit) {
			continue
		}
		added := limitText{place: item.place, Limit: limit}
		if r.checkTwin(limits, added) {
			limits = append(limits, added)
		}
	}
	for _, unit := range []store.Unit{store.Requests, store.Tokens, store.USD} {
		if count := countUnit(limits, unit); count > store.MaxLimits {
			r.wrong(list.place, "has %d limits of %s; write at most %d", count, unit, store.MaxLimits)
		}
	}
	return limits
}

// checkTwin reports a limit that stands for the unit and period, or under the name, of another.
func (r *report) checkTwin(limits []limitText, added limitText) bool {
	for _, other := range limits {
		if other.Unit != added.Unit {
			continue
		}
		where := ""
		if other.line > 0 && other.line != added.line {
			where = " in line " + strconv.Itoa(other.line)
		}
		switch {
		case other.Period == added.Period && other.sameZone(added.Limit):
			r.wrong(added.place, "%s limits the same as %s%s; leave one of them out", added, other, where)
			return false
		case other.Period == added.Period:
			r.wrong(added.place, "%s cannot stand beside %s%s, since the longest of their windows are equally long; leave one of them out",
				added, other, where)
			return false
		case other.Name == added.Name:
			r.wrong(added.place, "has the name %s of %s%s; write another name", quoted(added.Name), other, where)
			return false
		}
	}
	return true
}

// countUnit counts the limits of one unit.
func countUnit(limits []limitText, unit store.Unit) int {
	count := 0
	for _, limit := range limits {
		if limit.Unit == unit {
			count++
		}
	}
	return count
}

// checkPlans reports plans that are named but do not exist, and warns of those that nobody has.
func (r *report) checkPlans(doc *document, subjects, overrides *value) {
	var known []string
	for _, plan := range doc.plans {
		known = append(known, plan.name)
	}
	used := map[string]bool{}
	need := func(at place, name string) {
		if name != "" && !slices.Contains(known, name) {
			r.wrong(at, "%s is not a plan; write one that stands under plans%s", quoted(name), didYouMean(name, known))
		}
		used[name] = true
	}
	trusted := false
	for _, tier := range doc.tiers {
		need(subjects.get(tier.name).at("default_plan"), tier.defaultPlan)
		trusted = trusted || tier.trustPlan
	}
	for _, item := range overrides.list() {
		need(item.at("plan"), item.get("plan").str())
	}
	for _, plan := range doc.plans {
		if !used[plan.name] && !trusted {
			r.warn(plan.place, "nobody has this plan, except by an override in the store; name it as a default_plan or under "+
				"overrides, or leave it out")
		}
	}
}

// checkListed reports entries of the policy's list for unknown subjects, and subjects that stand twice.
func (r *report) checkListed(doc *document, subjects *value) {
	known := subjects.order()
	first := map[store.Subject]int{}
	for _, listed := range doc.overrides {
		if listed.tier == GlobalTier {
			r.wrong(listed.place, "the global tier has no ids; write its limits under global at the top")
			continue
		}
		if subjects != nil && listed.tier != "" && !slices.Contains(known, listed.tier) {
			r.wrong(listed.place, "%s is not a subject; write one that stands under subjects%s",
				quoted(listed.tier), didYouMean(listed.tier, known))
		}
		for _, id := range listed.ids {
			subject := store.Subject{Kind: listed.tier, ID: id.text}
			if line, found := first[subject]; found {
				r.wrong(id.place, "%s %s stands twice in the list, first in line %d; leave one of them out",
					listed.tier, quoted(id.text), line)
				continue
			}
			first[subject] = id.line
		}
	}
}
