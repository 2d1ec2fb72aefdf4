package budget

// Usage is what a model call has used, tokens. The kinds are disjoint: each token is counted in one field.
type Usage struct {
	Input      int64 // read by the model, and neither read from nor written to a cache
	CacheRead  int64 // read from the provider's prompt cache
	CacheWrite int64 // written to the provider's prompt cache
	Output     int64 // written by the model, reasoning left out
	Reasoning  int64
}

// Total is how many tokens there are of all kinds, at most MaxAmount: a larger sum counts as that. Negative counts are left out.
func (u Usage) Total() int64 {
	total := int64(0)
	for _, count := range []int64{u.Input, u.CacheRead, u.CacheWrite, u.Output, u.Reasoning} {
		total += min(max(count, 0), MaxAmount-total)
	}
	return total
}

// Breakdown is what a usage costs, nano-USD. Total is exact but for one rounding up; the parts sum up to it.
type Breakdown struct {
	Input, CacheRead, CacheWrite, Output, Reasoning int64
	Total                                           int64
}
