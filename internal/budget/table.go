package budget

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Model is one entry of a price list.
type Model struct {
	// Name and Aliases are names of models, exact to the letter. One with a * is a pattern: it matches every name that begins
	// with what stands before the * and ends with what stands behind it.
	Name    string
	Aliases []string
	Prices  []*Price // at least one; each holds from another moment on
}

// ErrTable says that a price list cannot be made of what was given.
var ErrTable = errors.New("not a price list")

// Table is a price list. It is immutable and safe for concurrent use; nil is an empty one.
type Table struct {
	models   []Model
	fallback []*Price
	exact    map[string]*Model
	patterns map[string][]pattern // by what stands before the *, the longest rest first
	lengths  []int                // of the keys of patterns, each once, the longest first
}

// pattern is a name with a *.
type pattern struct {
	rest  string // what stands behind the *
	model *Model
}

// NewTable makes a price list. Fallback is the price of a model that has none, where a policy wants that; nil for none.
// It errs with ErrTable if a name or alias stands twice, is empty or has two *, and if an entry has no price, or two from one
// moment on.
func NewTable(models []Model, fallback []*Price) (*Table, error) {
	t := &Table{models: slices.Clone(models), exact: map[string]*Model{}, patterns: map[string][]pattern{}}
	var err error
	if t.fallback, err = newestFirst(fallback); err != nil {
		return nil, fmt.Errorf("the default price: %w", err)
	}
	for i := range t.models {
		m := &t.models[i]
		if len(m.Prices) == 0 {
			return nil, fmt.Errorf("%w: %q has no price", ErrTable, m.Name)
		}
		if m.Prices, err = newestFirst(m.Prices); err != nil {
			return nil, fmt.Errorf("the price of %q: %w", m.Name, err)
		}
		for _, name := range append([]string{m.Name}, m.Aliases...) {
			if err := t.add(name, m); err != nil {
				return nil, err
			}
		}
	}
	t.sort()
	return t, nil
}

// newestFirst orders the prices of one model.
func newestFirst(prices []*Price) ([]*Price, error) {
	ordered := slices.Clone(prices)
	slices.SortFunc(ordered, func(a, b *Price) int { return cmp.Compare(b.from, a.from) })
	for i := 1; i < len(ordered); i++ {
		if ordered[i].from == ordered[i-1].from {
			return nil, fmt.Errorf("%w: two prices hold from one moment on", ErrTable)
		}
	}
	return ordered, nil
}

// add files a model under a name.
func (t *Table) add(name string, m *Model) error {
	before, rest, isPattern := strings.Cut(name, "*")
	switch {
	case name == "":
		return fmt.Errorf("%w: a name is empty", ErrTable)
	case strings.Contains(rest, "*"):
		return fmt.Errorf("%w: %q has more than one *", ErrTable, name)
	case !isPattern && t.exact[name] != nil,
		isPattern && slices.ContainsFunc(t.patterns[before], func(p pattern) bool { return p.rest == rest }):
		return fmt.Errorf("%w: %q stands twice", ErrTable, name)
	case isPattern:
		t.patterns[before] = append(t.patterns[before], pattern{rest: rest, model: m})
	default:
		t.exact[name] = m
	}
	return nil
}

// sort makes the patterns ready to be searched.
func (t *Table) sort() {
	for before, patterns := range t.patterns {
		slices.SortFunc(patterns, func(a, b pattern) int { return cmp.Compare(len(b.rest), len(a.rest)) })
		t.lengths = append(t.lengths, len(before))
	}
	slices.Sort(t.lengths)
	t.lengths = slices.Compact(t.lengths)
	slices.Reverse(t.lengths)
}

// Models returns the entries in their order. The slice is shared: do not write to it.
func (t *Table) Models() []Model {
	if t == nil {
		return nil
	}
	return t.models
}

// Find returns the price of a model at a moment, unix seconds, and the name of the entry that it is from: that of the model's
// own name or alias, else of the pattern with most before its *, and of those the one with most behind it. An entry whose
// prices all begin later is passed over.
func (t *Table) Find(model string, at int64) (p *Price, name string, ok bool) {
	if t == nil || model == "" {
		return nil, "", false
	}
	if m := t.exact[model]; m != nil {
		if p := inForce(m.Prices, at); p != nil {
			return p, m.Name, true
		}
	}
	for _, length := range t.lengths {
		if length > len(model) {
			continue
		}
		for _, pattern := range t.patterns[model[:length]] {
			if !strings.HasSuffix(model[length:], pattern.rest) {
				continue
			}
			if p := inForce(pattern.model.Prices, at); p != nil {
				return p, pattern.model.Name, true
			}
		}
	}
	return nil, "", false
}

// Default returns the price of a model that has none of its own, at a moment, unix seconds.
func (t *Table) Default(at int64) (p *Price, ok bool) {
	if t == nil {
		return nil, false
	}
	p = inForce(t.fallback, at)
	return p, p != nil
}

// inForce returns the newest price that holds at a moment, nil if none does yet.
func inForce(newestFirst []*Price, at int64) *Price {
	for _, p := range newestFirst {
		if p.from <= at {
			return p
		}
	}
	return nil
}
