package policy

// warnUnbound warns of limits that can never deny, because another one always denies before them: one of the same
// plan, or of the global tier, which counts every subject's use.
func (r *report) warnUnbound(doc *document) {
	for _, plan := range doc.plans {
		r.warnUnboundIn(plan.limits, doc.global.limits)
	}
	for _, listed := range doc.overrides {
		r.warnUnboundIn(listed.limits, doc.global.limits)
	}
	r.warnUnboundIn(doc.global.limits, nil)
}

// warnUnboundIn warns of limits that others of their list or global ones make useless, once for each.
func (r *report) warnUnboundIn(limits, global []limitText) {
	for i := range limits {
		limit := limits[i]
		if other := binding(limit.Limit, limits); other != nil {
			r.warn(limit.at(), "%s can never bind, because %s denies before it; leave it out, or lower it", limit, other)
		} else if other := binding(limit.Limit, global); other != nil {
			r.warn(limit.at(), "%s can never bind, because the global limit %s denies before it; leave it out, or lower it",
				limit, other)
		}
	}
}

// at names the setting of a limit that the environment set.
func (l limitText) at() place {
	if l.setting != "" {
		return place{line: l.line, column: l.column, field: l.setting}
	}
	return l.place
}

// binding returns a limit that denies whatever the first one would, nil if there is none.
func binding(limit Limit, others []limitText) *Limit {
	for i := range others {
		other := &others[i].Limit
		// A limit of 0 is a switch, thrown on purpose. A window of the calendar admits its amount twice around a midnight.
		if other.Unit != limit.Unit || other.Shadow || limit.Max == 0 || other.Max == 0 || other.Calendar != nil {
			continue
		}
		if other.Period == limit.Period && other.Max >= limit.Max { // itself, among others
			continue
		}
		if mostWithin(*other, limit) <= limit.Max {
			return other
		}
	}
	return nil
}

// mostWithin returns the most that a limit admits in one period of another: its amount once for each of its windows
// that it takes to cover the period.
func mostWithin(limit, of Limit) int64 {
	if limit.Period >= of.Period { // concurrent limits, too
		return limit.Max
	}
	covers := int64((of.Period + limit.Period - 1) / limit.Period)
	if limit.Max > of.Max/covers+1 {
		return of.Max + 1 // more than it, without an overflow
	}
	return limit.Max * covers
}
