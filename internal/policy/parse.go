package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// Parse reads a policy. The file is its name in errors. The error is an *Error that tells everything that is wrong;
// the warnings tell what works but cannot be meant.
//
// A file that the policy names is read from beside it.
func Parse(file string, data []byte, settings Adjustments) (*Snapshot, []Warning, error) {
	return parse(file, data, settings, beside(file))
}

// parse is Parse with a way to read the files that the policy names.
func parse(file string, data []byte, settings Adjustments, open opener) (*Snapshot, []Warning, error) {
	r := &report{file: file}
	doc := r.readDocument(data, open)
	if len(r.problems) == 0 {
		r.adjust(doc, settings)
	}
	if err := r.err(); err != nil {
		return nil, nil, err
	}
	r.warnUnbound(doc)
	return doc.snapshot(), r.sortedWarnings(), nil
}

// ParseOverride reads the override of a subject of a kind as it is kept in the store: `{"plan":"pro"}` or
// `{"limits":["50/minute"]}`, in JSON or YAML. Its limits are all the limits of the subject; none of its plan's hold
// beside them. The error is an *Error.
func (s *Snapshot) ParseOverride(kind, text string) (*Override, error) {
	r := &report{file: overridePlan}
	t := s.tier(kind)
	switch {
	case t == nil:
		r.wrong(place{}, "%s is not a subject of the policy; name one of %s", quoted(kind), strings.Join(s.Tiers(), ", "))
		return nil, r.err()
	case len(text) > maxOverrideBytes:
		r.wrong(place{}, "is longer than %d bytes; write a plan or a few limits", maxOverrideBytes)
		return nil, r.err()
	}
	root := r.readYAML([]byte(text), overrideShape(limitsShape()))
	override := &Override{Plan: root.get("plan").str()}
	if root.has("limits") {
		override.Limits = newLimits(overridePlan, plainLimits(r.readLimits(root.get("limits"))))
	}
	switch {
	case override.Plan == "":
	case kind == GlobalTier:
		r.wrong(root.at("plan"), "the global tier has no plans; write limits")
	case t.plans[override.Plan] == nil:
		r.wrong(root.at("plan"), "%s is not a plan of the policy; write one of %s",
			quoted(override.Plan), strings.Join(t.planNames(), ", "))
	}
	if err := r.err(); err != nil {
		return nil, err
	}
	return override, nil
}

// planNames returns the names of the plans that a tier's subjects may have.
func (t *tier) planNames() []string {
	names := make([]string, 0, len(t.plans))
	for name := range t.plans {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// plainLimits strips limits of where they stood.
func plainLimits(texts []limitText) []Limit {
	limits := make([]Limit, 0, len(texts))
	for _, text := range texts {
		limits = append(limits, text.Limit)
	}
	return limits
}

// snapshot makes a checked document fast.
func (d *document) snapshot() *Snapshot {
	s := &Snapshot{
		domain: d.domain, hash: d.hash(), user: userTier(d.tiers), cost: &d.cost.Cost, prices: d.cost.table,
	}
	for _, text := range d.tiers {
		s.tiers = append(s.tiers, s.newTier(d, text))
	}
	limits := newLimits(GlobalTier, plainLimits(d.global.limits))
	s.number(GlobalTier, limits)
	s.global = tier{name: GlobalTier, fallback: limits, onStoreFailure: d.global.onStoreFailure}
	return s
}

// newTier makes one tier with its own copy of every plan.
func (s *Snapshot) newTier(d *document, text tierText) tier {
	t := tier{
		none: noLimits(),
		name: text.name, key: text.key, planKey: text.planKey, trustPlan: text.trustPlan,
		onStoreFailure: text.onStoreFailure,
		plans:          map[string]*Limits{}, listed: map[string]*Limits{}, fallback: &Limits{},
	}
	for _, plan := range d.plans {
		limits := newLimits(plan.name, plainLimits(plan.limits))
		s.number(t.name, limits)
		t.plans[plan.name] = limits
	}
	if text.defaultPlan != "" {
		t.fallback = t.plans[text.defaultPlan]
	}
	for _, listed := range d.overrides {
		if listed.tier != t.name {
			continue
		}
		limits := t.plans[listed.plan]
		if listed.plan == "" {
			limits = newLimits(overridePlan, plainLimits(listed.limits))
		}
		for _, id := range listed.ids {
			t.listed[id.text] = limits
		}
	}
	return t
}

// number gives limits their ordinals.
func (s *Snapshot) number(tierName string, limits *Limits) {
	for _, limit := range limits.all() {
		limit.Ordinal = len(s.limits)
		s.limits = append(s.limits, TierLimit{Tier: tierName, Plan: limits.Plan, Limit: *limit})
	}
}

// hash returns the SHA-256 of what the document means, in hex.
func (d *document) hash() string {
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	for _, t := range d.tiers {
		add("subject %q key %q plan_key %q trust %t default %q on_store_failure %s",
			t.name, t.key, t.planKey, t.trustPlan, t.defaultPlan, t.onStoreFailure)
	}
	for _, plan := range d.plans {
		add("plan %q %s", plan.name, meaning(plan.limits))
	}
	for _, listed := range d.overrides {
		for _, id := range listed.ids {
			add("override %q %q plan %q %s", listed.tier, id.text, listed.plan, meaning(listed.limits))
		}
	}
	add("global %s on_store_failure %s", meaning(d.global.limits), d.global.onStoreFailure)
	lines = append(lines, d.cost.meaning()...)
	slices.Sort(lines)
	first := ""
	if len(d.tiers) > 0 {
		first = d.tiers[userTier(d.tiers)].name
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "domain %q user %q\n%s", d.domain, first, strings.Join(lines, "\n")))
	return hex.EncodeToString(sum[:])
}

// meaning writes limits in one order, whatever the file's.
func meaning(limits []limitText) string {
	texts := make([]string, 0, len(limits))
	for _, l := range limits {
		texts = append(texts, fmt.Sprintf("(%s %q %d/%d %t%s)", l.Unit, l.Name, l.Max, int64(l.Period), l.Shadow, l.zoneText()))
	}
	slices.Sort(texts)
	return strings.Join(texts, "")
}
