package policy

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/budget"
	"github.com/ratelimitd/ratelimitd/internal/store"
)

// Bounds of what a policy says about money.
const (
	maxPricesBytes = 4 << 20
	maxModels      = 10_000
	maxAliases     = 64
	maxTiers       = 8
	maxVersions    = 64
	maxTokens      = 1_000_000_000_000
)

const (
	countPattern = `^[0-9][0-9_]*$`
	ratePattern  = `^[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,2})?$`
	timePattern  = `^[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[Tt ].+)?$`
	zonePattern  = `^[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+)*$`
	moneyPattern = `^\$?[0-9][0-9_]*(?:\.[0-9]+)?(?: *(?:USD|usd))?$`
	// A model's name has at most one *, which stands for any text.
	modelPattern = `^(?:[^*\x00-\x1f\x7f]{1,256}|[^*\x00-\x1f\x7f]{0,128}\*[^*\x00-\x1f\x7f]{0,128})$`
)

var (
	countShaped = regexp.MustCompile(countPattern)
	rateShaped  = regexp.MustCompile(ratePattern)
	timeShaped  = regexp.MustCompile(timePattern)
	zoneShaped  = regexp.MustCompile(zonePattern)
	moneyShaped = regexp.MustCompile(moneyPattern)
	modelName   = regexp.MustCompile(modelPattern)
)

const (
	rateText  = "a price in USD, as 0.0000002"
	countText = "a number of tokens, as 200000"
	modelText = "a model's name of at most 256 characters, with at most one *, which stands for any text"
	timeText  = "a day, as 2026-01-31, or a moment, as 2026-01-31T12:00:00Z"
	zoneText  = "the name of a time zone, as Europe/Berlin or UTC"
)

var (
	errRateText  = errors.New("is not a price; write " + rateText)
	errCount     = errors.New("is not a number of tokens; write a whole number from 0 to 1000000000000")
	errTimeText  = errors.New("is not a moment; write " + timeText)
	errZone      = errors.New("is not a time zone; write " + zoneText)
	errLease     = errors.New("is not a lease; write a length from 1s to 1h, as 30s")
	errHoldMoney = errors.New("is too large; write at most " + budget.FormatMoney(store.MaxAmount))
	errNotBeside = errors.New("must name a file beside the policy or below; write a relative path, as prices.yaml")
)

// costShape describes what a policy says about money.
func costShape() *shape {
	return &shape{
		kind: objectKind, doc: "What models cost, what calls hold, and what becomes of that.",
		fields: []field{
			{name: "prices", shape: pricesShape()},
			{name: "prices_file", shape: &shape{
				kind: textKind, pattern: someText, patternText: "the name of a file beside the policy, as prices.yaml",
				doc: "A file with more prices, beside the policy, as ratelimitd prices import writes one. A model that stands in both " +
					"has the price of the policy.",
				check: func(text string) error {
					if !filepath.IsLocal(text) {
						return fmt.Errorf("%s %w", quoted(text), errNotBeside)
					}
					return nil
				},
			}},
			{name: "default_price", shape: &shape{
				kind: objectKind, doc: "The price of a model that has none, with on_unknown_price: default.",
				fields: slices.Concat(rateFields(true), []field{{name: "above", shape: aboveShape()}, {name: "per", shape: perShape()}}),
			}},
			{name: "on_unknown_price", shape: valuesShape("What to do with a call of a model that has no price.",
				DenyUnpriced.String(), DefaultPriced.String(), AllowUnpriced.String())},
			{name: "on_unknown_usage", shape: unknownUsageShape()},
			{name: "on_expiry", shape: valuesShape("What becomes of the tokens and the money of a hold whose lease is over.",
				"charge", "release")},
			{name: "on_release", shape: valuesShape("Whether a hold that is released gives its request count back, too.",
				"keep_requests", "return_requests")},
			{name: "lease", shape: &shape{
				kind: textKind, doc: "How long a hold of a call by Envoy lives that nobody ends: 1s to 1h.", fallback: "30s",
				pattern: periodShape, patternText: "a length from 1s to 1h, as 30s",
				check: func(text string) error { _, err := parseLease(text); return err },
			}},
			{name: "hold", shape: holdShape()},
		},
	}
}

// valuesShape describes a choice of words; the first is the default.
func valuesShape(doc string, values ...string) *shape {
	return &shape{kind: textKind, doc: doc, values: values, fallback: values[0]}
}

// unknownUsageShape describes what to charge where no usage was told.
func unknownUsageShape() *shape {
	const doc = "What to charge for a call that ended without a word on its usage"
	word := func(more string) *shape {
		return valuesShape(doc+more, ChargeHold.String(), ChargeInput.String(), ReleaseHold.String())
	}
	all := &shape{kind: objectKind, doc: doc + ", by its outcome.", short: word(".")}
	for _, outcome := range Outcomes() {
		all.fields = append(all.fields, field{name: outcome, shape: word(" and with this outcome.")})
	}
	return all
}

// Outcomes are how a call may end, as callers say it.
func Outcomes() []string { return []string{"success", "error", "cancelled", "timeout"} }

// holdShape describes what a call by Envoy holds.
func holdShape() *shape {
	return &shape{
		kind: objectKind, doc: "What a call by Envoy holds until its usage is told.",
		fields: []field{
			{name: "usd", shape: &shape{
				kind: textKind, number: "number", doc: "A fixed amount of USD.", pattern: moneyShaped,
				patternText: "an amount of USD, as 0.01",
				check:       func(text string) error { _, err := parseHoldMoney(text); return err },
			}},
			{name: "model", shape: &shape{
				kind: textKind, doc: "The model whose price counts where a call names none.", pattern: modelName, patternText: modelText,
			}},
			{name: "input_tokens", shape: countShape("The input tokens of a call that names none.")},
			{name: "max_output_tokens", shape: countShape("The most output tokens of a call that names none.")},
		},
		exactlyOne: []string{"usd", "model"},
	}
}

// pricesShape describes a price list.
func pricesShape() *shape {
	aliases := &shape{
		kind: listKind, doc: "Other names of the model.", most: maxAliases,
		item: &shape{kind: textKind, doc: "A model's name.", pattern: modelName, patternText: modelText},
	}
	version := &shape{
		kind: objectKind, doc: "The price from some moment on.",
		fields: slices.Concat(rateFields(true), []field{
			{name: "above", shape: aboveShape()}, {name: "effective_from", shape: momentShape()},
		}),
	}
	return &shape{
		kind: dictKind, doc: "What models cost, by their names. A * in a name stands for any text.", define: "prices",
		names: modelName, namesText: modelText, most: maxModels,
		item: &shape{
			kind: objectKind, doc: "What one model costs.",
			fields: slices.Concat(rateFields(false), []field{
				{name: "above", shape: aboveShape()},
				{name: "effective_from", shape: momentShape()},
				{name: "versions", shape: &shape{
					kind: listKind, doc: "Prices that hold one after the other.", item: version, least: 1, most: maxVersions,
				}},
				{name: "per", shape: perShape()},
				{name: "aliases", shape: aliases},
			}),
			exactlyOne: []string{"input", "versions"},
		},
	}
}

// pricesFileShape describes a file of prices.
func pricesFileShape() *shape {
	return &shape{
		kind: objectKind, doc: "A price list of ratelimitd.",
		fields: []field{{name: "prices", required: true, shape: pricesShape()}},
	}
}

// rateFields are the prices of the kinds of token.
func rateFields(needed bool) []field {
	rate := func(name, doc string, required bool) field {
		return field{name: name, required: required, shape: &shape{
			kind: textKind, number: "number", doc: doc, pattern: rateShaped, patternText: rateText, check: checkRate,
		}}
	}
	return []field{
		rate("input", "USD of an input token.", needed),
		rate("output", "USD of an output token.", needed),
		rate("cache_read", "USD of an input token read from the provider's prompt cache; by default that of input.", false),
		rate("cache_write", "USD of an input token written to the provider's prompt cache; by default that of input.", false),
		rate("reasoning", "USD of a reasoning token; by default that of output.", false),
	}
}

// aboveShape describes prices of calls with much input.
func aboveShape() *shape {
	return &shape{
		kind: listKind, define: "above", most: maxTiers,
		doc: "Prices of all tokens of a call with more than so many on its input side, cached ones included.",
		item: &shape{
			kind: objectKind, doc: "Prices above a number of input tokens. A kind that is left out keeps the price below.",
			fields: slices.Concat([]field{
				{name: "tokens", required: true, shape: countShape("The input tokens above which the prices hold.")},
			}, rateFields(false)),
		},
	}
}

func perShape() *shape {
	return valuesShape("How many tokens the prices are of.", "token", "1K", "1M")
}

func momentShape() *shape {
	return &shape{
		kind: textKind, doc: "The moment from which the price holds: a day, from 00:00 UTC, or a moment with its time zone.",
		pattern: timeShaped, patternText: timeText,
		check: func(text string) error { _, err := parseMoment(text); return err },
	}
}

func countShape(doc string) *shape {
	return &shape{
		kind: textKind, number: "integer", doc: doc, pattern: countShaped, patternText: countText,
		check: func(text string) error { _, err := parseCount(text); return err },
	}
}

// checkRate tells whether a text looks like a price. How fine it may be depends on how many tokens it is of.
func checkRate(text string) error {
	if !rateShaped.MatchString(text) {
		return fmt.Errorf("%s %w", quoted(text), errRateText)
	}
	return nil
}

// parseCount reads a number of tokens.
func parseCount(text string) (int64, error) {
	if !countShaped.MatchString(text) {
		return 0, fmt.Errorf("%s %w", quoted(text), errCount)
	}
	count, err := strconv.ParseInt(strings.ReplaceAll(text, "_", ""), 10, 64)
	if err != nil || count > maxTokens {
		return 0, fmt.Errorf("%s %w", quoted(text), errCount)
	}
	return count, nil
}

// parseMoment reads a day or a moment, unix seconds.
func parseMoment(text string) (int64, error) {
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.Unix(), nil
		}
	}
	return 0, fmt.Errorf("%s %w", quoted(text), errTimeText)
}

// parseZone finds a time zone by its name. The host's own zone has none that holds everywhere.
func parseZone(text string) (*time.Location, error) {
	if !zoneShaped.MatchString(text) || text == "Local" {
		return nil, fmt.Errorf("%s %w", quoted(text), errZone)
	}
	zone, err := time.LoadLocation(text)
	if err != nil {
		return nil, fmt.Errorf("%s %w", quoted(text), errZone)
	}
	return zone, nil
}

// parseLease reads the life of a hold.
func parseLease(text string) (time.Duration, error) {
	lease, _, err := parsePeriod(text)
	if err != nil || lease < store.MinLease || lease > store.MaxLease {
		return 0, fmt.Errorf("%s %w", quoted(text), errLease)
	}
	return lease, nil
}

// parseHoldMoney reads the fixed amount of a hold, nano-USD.
func parseHoldMoney(text string) (int64, error) {
	nano, err := budget.ParseMoney(text)
	if err != nil {
		return 0, err
	}
	if nano > store.MaxAmount {
		return 0, fmt.Errorf("%s %w", quoted(text), errHoldMoney)
	}
	return nano, nil
}
