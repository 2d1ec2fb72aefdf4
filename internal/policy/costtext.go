package policy

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ratelimitd/ratelimitd/internal/budget"
)

// costText is what a policy file says about money.
type costText struct {
	Cost

	models   []budget.Model
	fallback []*budget.Price
	table    *budget.Table
}

// defaultCost is what holds where a policy says nothing.
func defaultCost() costText {
	return costText{Cost: Cost{Lease: defaultLease, unknownUsage: map[string]UnknownUsage{}}, table: &budget.Table{}}
}

// readCost reads the section cost. Open reads a file beside the policy.
func (r *report) readCost(cost *value, open opener) costText {
	text := defaultCost()
	if cost == nil {
		return text
	}
	if lease, err := parseLease(cost.get("lease").str()); err == nil { // the shape has reported it
		text.Lease = lease
	}
	text.ReleaseOnExpiry = cost.get("on_expiry").str() == "release"
	text.ReturnRequests = cost.get("on_release").str() == "return_requests"
	text.OnUnknownPrice = readUnknownPrice(cost.get("on_unknown_price").str())
	readUnknownUsage(cost.get("on_unknown_usage"), text.unknownUsage)
	r.readPrices(cost, open, &text)
	if text.OnUnknownPrice == DefaultPriced && !cost.has("default_price") {
		r.wrong(cost.at("on_unknown_price"), "needs a default_price; write default_price: {input: 0.000001, output: 0.000002}, or deny")
	}
	r.readHold(cost.get("hold"), &text)
	return text
}

func readUnknownPrice(text string) UnknownPrice {
	for _, u := range []UnknownPrice{DefaultPriced, AllowUnpriced} {
		if text == u.String() {
			return u
		}
	}
	return DenyUnpriced
}

func readUnknownUsage(v *value, to map[string]UnknownUsage) {
	read := func(text string) UnknownUsage {
		for _, u := range []UnknownUsage{ChargeInput, ReleaseHold} {
			if text == u.String() {
				return u
			}
		}
		return ChargeHold
	}
	to[""] = read(v.str()) // where the outcome is not known: the one word for all, if there is one
	for _, outcome := range Outcomes() {
		text := v.str()
		if text == "" {
			text = v.get(outcome).str()
		}
		to[outcome] = read(text)
	}
}

// readHold reads what a call by Envoy holds.
func (r *report) readHold(hold *value, text *costText) {
	if hold == nil {
		return
	}
	// What is wrong with the parts, their shapes have reported.
	text.Hold.USD, _ = parseHoldMoney(hold.get("usd").str())
	text.Hold.Model = hold.get("model").str()
	text.Hold.InputTokens, _ = parseCount(hold.get("input_tokens").str())
	text.Hold.MaxOutputTokens, _ = parseCount(hold.get("max_output_tokens").str())
	if text.Hold.Model == "" || len(r.problems) > 0 {
		return
	}
	price, _, found := text.table.Find(text.Hold.Model, math.MaxInt64)
	if !found {
		r.wrong(hold.at("model"), "%s has no price; write one under cost.prices, or another model", quoted(text.Hold.Model))
		return
	}
	if _, err := price.Cost(budget.Usage{Input: text.Hold.InputTokens, Output: text.Hold.MaxOutputTokens}); err != nil {
		r.wrong(hold.place, "cannot be held: %v; write fewer tokens", err)
	}
}

// readPrices reads the policy's prices, those of the file beside it, and the default price.
func (r *report) readPrices(cost *value, open opener, text *costText) {
	names := map[string]int{} // the lines of the names and aliases
	r.readModels(cost.get("prices"), names, nil, text)
	if file := cost.get("prices_file"); file != nil {
		r.readPricesFile(file, open, names, text)
	}
	if v := cost.get("default_price"); v != nil {
		if price, ok := r.readPrice(v, readPer(v)); ok {
			text.fallback = []*budget.Price{price}
		}
	}
	if len(r.problems) > 0 {
		return
	}
	table, err := budget.NewTable(text.models, text.fallback)
	if err != nil { // the models were checked one by one
		r.wrong(cost.place, "cannot be used: %v", err)
		return
	}
	text.table = table
}

// readPricesFile reads the prices of another file. Those of the policy itself go before them.
func (r *report) readPricesFile(file *value, open opener, ours map[string]int, text *costText) {
	data, err := open(file.text, maxPricesBytes)
	if err != nil {
		r.wrong(file.place, "cannot be read: %v", err)
		return
	}
	other := &report{file: filepath.Join(filepath.Dir(r.file), file.text)}
	other.readPricesText(data, ours, text)
	r.problems = append(r.problems, other.problems...)
}

// CheckPrices tells whether a text can be a policy's prices_file. The file is its name in errors. The error is an *Error.
func CheckPrices(file string, data []byte) error {
	r := &report{file: file}
	text := defaultCost()
	r.readPricesText(data, nil, &text)
	return r.err()
}

// readPricesText reads a price list, without the models that are taken.
func (r *report) readPricesText(data []byte, taken map[string]int, text *costText) {
	if len(data) > maxPricesBytes {
		r.wrong(place{}, "is larger than 4 MiB; leave models out that nobody calls")
		return
	}
	root := r.readYAML(data, pricesFileShape())
	r.readModels(root.get("prices"), map[string]int{}, taken, text)
}

// readModels adds the models of one price list. Names and aliases that stand in taken are left out; one that stands twice in the
// list itself is a problem.
func (r *report) readModels(prices *value, names, taken map[string]int, text *costText) {
	claim := func(at place, name string) bool {
		if first, twice := names[name]; twice {
			r.wrong(at, "the model %s has a price already, in line %d; leave one of them out", quoted(name), first)
			return false
		}
		names[name] = at.line
		_, theirs := taken[name]
		return !theirs
	}
	for _, name := range prices.order() {
		entry := prices.get(name)
		if entry == nil {
			continue // it is reported
		}
		mine := claim(prices.places[name], name)
		model := budget.Model{Name: name}
		for _, alias := range entry.get("aliases").list() {
			if claim(alias.place, alias.text) {
				model.Aliases = append(model.Aliases, alias.text)
			}
		}
		model.Prices = r.readVersions(entry)
		if mine && len(model.Prices) > 0 {
			text.models = append(text.models, model)
		}
	}
}

// readVersions reads the prices of one model.
func (r *report) readVersions(entry *value) []*budget.Price {
	per := readPer(entry)
	if !entry.has("versions") {
		if price, ok := r.readPrice(entry, per); ok {
			return []*budget.Price{price}
		}
		return nil
	}
	for _, name := range []string{"output", "cache_read", "cache_write", "reasoning", "above", "effective_from"} {
		if entry.has(name) {
			r.wrong(entry.at(name), "stands beside versions; write it in each of them")
		}
	}
	var prices []*budget.Price
	lines := map[int64]int{}
	for _, version := range entry.get("versions").list() {
		price, ok := r.readPrice(version, per)
		if !ok {
			continue
		}
		if first, twice := lines[price.EffectiveFrom()]; twice {
			r.wrong(version.place, "holds from the same moment as the one in line %d; write another effective_from", first)
			continue
		}
		lines[price.EffectiveFrom()] = version.line
		prices = append(prices, price)
	}
	return prices
}

// readPer returns how many tokens the prices of a value are of.
func readPer(v *value) int64 {
	switch v.get("per").str() {
	case "1K":
		return 1000
	case "1M":
		return 1_000_000
	default:
		return 1
	}
}

// readPrice reads one price, per so many tokens.
func (r *report) readPrice(v *value, per int64) (*budget.Price, bool) {
	known := len(r.problems)
	if !v.has("output") {
		r.wrong(place{v.line, v.column, join(v.field, "output")}, "is missing; write %s", rateText)
	}
	from := int64(math.MinInt64)
	if moment, err := parseMoment(v.get("effective_from").str()); err == nil {
		from = moment
	}
	rates := r.readRates(v, per)
	var tiers []budget.Tier
	lines := map[int64]int{}
	for _, item := range v.get("above").list() {
		above, err := parseCount(item.get("tokens").str())
		if err != nil {
			continue // it is reported
		}
		if first, twice := lines[above]; twice {
			r.wrong(item.at("tokens"), "is that of the prices in line %d; write another number", first)
			continue
		}
		if above == 0 {
			r.wrong(item.at("tokens"), "must be more than 0; the prices of every call stand beside above")
			continue
		}
		lines[above] = item.line
		tiers = append(tiers, budget.Tier{Above: above, Rates: r.readRates(item, per)})
	}
	if len(r.problems) > known || rates.Input == budget.Inherit || rates.Output == budget.Inherit {
		return nil, false // what is missing is reported
	}
	price, err := budget.NewPrice(from, rates, tiers...)
	if err != nil { // the parts were checked one by one
		r.wrong(v.place, "cannot be used: %v", err)
		return nil, false
	}
	return price, true
}

// readRates reads the prices of the kinds of token.
func (r *report) readRates(v *value, per int64) budget.Rates {
	rate := func(name string) int64 {
		field := v.get(name)
		if field == nil {
			return budget.Inherit
		}
		parsed, err := budget.ParseRate(field.text, per)
		if err != nil {
			r.wrong(field.place, "%v", err)
			return budget.Inherit
		}
		return parsed
	}
	return budget.Rates{
		Input: rate("input"), CacheRead: rate("cache_read"), CacheWrite: rate("cache_write"), Output: rate("output"),
		Reasoning: rate("reasoning"),
	}
}

// meaning writes what holds, whatever was left out, for the policy's hash: a line for the rules and one for each model.
func (c *costText) meaning() []string {
	lines := []string{
		fmt.Sprintf("cost lease %d release_on_expiry %t return_requests %t", int64(c.Lease), c.ReleaseOnExpiry, c.ReturnRequests),
		fmt.Sprintf("cost unknown_price %s unknown_usage %s", c.OnUnknownPrice, c.usageMeaning()),
		fmt.Sprintf("cost hold %d %q %d %d", c.Hold.USD, c.Hold.Model, c.Hold.InputTokens, c.Hold.MaxOutputTokens),
	}
	add := func(name string, aliases []string, prices []*budget.Price) {
		for _, p := range prices {
			lines = append(lines, fmt.Sprintf("price %q %q from %d %v", name, aliases, p.EffectiveFrom(), p.Tiers()))
		}
	}
	for _, m := range c.models {
		add(m.Name, slices.Sorted(slices.Values(m.Aliases)), m.Prices)
	}
	add("", nil, c.fallback)
	return lines
}

func (c *costText) usageMeaning() string {
	words := make([]string, 0, len(Outcomes()))
	for _, outcome := range Outcomes() {
		words = append(words, c.unknownUsage[outcome].String())
	}
	if u := c.unknownUsage[""]; u != ChargeHold {
		words = append(words, u.String())
	}
	return strings.Join(words, " ")
}
