package prices

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ratelimitd/ratelimitd/internal/budget"
)

const (
	// example is the row that explains the format.
	example = "sample_spec"
	// longestName is the longest name of a model, bytes; with a *, half of it stands on either side.
	longestName = 256
	// mostTiers is how many tiers of input tokens a model may have.
	mostTiers = 8
)

// Why a row cannot be used.
var (
	errTwice     = errors.New("stands twice; the first row counts")
	errExample   = errors.New("is the example that explains the format")
	errName      = errors.New("has a name that cannot be used: at most 256 bytes, one *, and no control characters")
	errNotRow    = errors.New("is not an object")
	errMode      = errors.New("is not priced by tokens of text")
	errRanges    = errors.New("has its prices in tiered_pricing, which is not read")
	errNoPrice   = errors.New("has no price per token")
	errNoOutput  = errors.New("has no output_cost_per_token")
	errNotNumber = errors.New("is not a number")
	errTiers     = errors.New("has more tiers of input tokens than 8")
	errTier      = errors.New("has a bound of tokens that cannot be used")
)

// kind is a price of the format, and where it goes.
type kind struct {
	field string
	rate  func(*budget.Rates) *int64
}

func kinds() []kind {
	return []kind{
		{"input_cost_per_token", func(r *budget.Rates) *int64 { return &r.Input }},
		{"output_cost_per_token", func(r *budget.Rates) *int64 { return &r.Output }},
		{"cache_read_input_token_cost", func(r *budget.Rates) *int64 { return &r.CacheRead }},
		{"cache_creation_input_token_cost", func(r *budget.Rates) *int64 { return &r.CacheWrite }},
		{"output_cost_per_reasoning_token", func(r *budget.Rates) *int64 { return &r.Reasoning }},
	}
}

// tierField is a price above a number of input tokens.
var tierField = regexp.MustCompile(`^(.+)_above_([0-9]{1,9})(k?)_tokens$`)

// readRow reads one row.
func readRow(name string, text json.RawMessage) (Model, error) {
	if name == example {
		return Model{}, errExample
	}
	if !isName(name) {
		return Model{}, errName
	}
	var row map[string]json.RawMessage
	if err := json.Unmarshal(text, &row); err != nil || row == nil {
		return Model{}, errNotRow
	}
	mode, err := readMode(row["mode"])
	if err != nil {
		return Model{}, err
	}
	model := Model{Name: name, Rates: budget.Unset()}
	if err := model.readPrices(row); err != nil {
		return Model{}, err
	}
	switch {
	case model.Rates.Input == budget.Inherit && row["tiered_pricing"] != nil:
		return Model{}, errRanges
	case model.Rates.Input == budget.Inherit:
		return Model{}, errNoPrice
	case model.Rates.Output == budget.Inherit && mode == "embedding":
		model.Rates.Output = 0
	case model.Rates.Output == budget.Inherit:
		return Model{}, errNoOutput
	}
	if len(model.Tiers) > mostTiers {
		return Model{}, errTiers
	}
	slices.SortFunc(model.Tiers, func(a, b budget.Tier) int { return cmp.Compare(a.Above, b.Above) })
	if _, err := budget.NewPrice(0, model.Rates, model.Tiers...); err != nil {
		return Model{}, fmt.Errorf("cannot be used: %w", err)
	}
	return model, nil
}

// isName tells whether a policy can have a price by a name.
func isName(name string) bool {
	before, behind, isPattern := strings.Cut(name, "*")
	if isPattern && (len(before) > longestName/2 || len(behind) > longestName/2) {
		return false
	}
	return name != "" && len(name) <= longestName && !strings.Contains(behind, "*") &&
		!strings.ContainsFunc(name, func(char rune) bool { return char < ' ' || char == '\x7f' })
}

// readMode reads what a model does, and refuses what has another price than that of tokens of text.
func readMode(text json.RawMessage) (string, error) {
	if text == nil {
		return "", nil
	}
	var mode string
	if err := json.Unmarshal(text, &mode); err != nil {
		return "", fmt.Errorf("%w: its mode is %.40q", errMode, text)
	}
	switch mode {
	case "", "chat", "completion", "responses", "embedding":
		return mode, nil
	default:
		return "", fmt.Errorf("%w: its mode is %.40q", errMode, mode)
	}
}

// readPrices reads the prices of a row, in the order of their names so that the same row is always answered alike.
func (m *Model) readPrices(row map[string]json.RawMessage) error {
	known := kinds()
	names := make([]string, 0, len(row))
	for name := range row {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		rates, field := &m.Rates, name
		tier := tierField.FindStringSubmatch(name)
		if tier != nil {
			field = tier[1]
		}
		at := slices.IndexFunc(known, func(k kind) bool { return k.field == field })
		if at < 0 {
			if strings.Contains(name, "cost") {
				m.Unread = append(m.Unread, name)
			}
			continue
		}
		if string(row[name]) == "null" {
			continue
		}
		if tier != nil {
			var err error
			if rates, err = m.tier(tier[2], tier[3] == "k"); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		rate, err := readRate(row[name])
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		*known[at].rate(rates) = rate
	}
	return nil
}

// tier returns the rates above a number of tokens, or of thousands of them.
func (m *Model) tier(digits string, thousands bool) (*budget.Rates, error) {
	above, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || above == 0 {
		return nil, errTier
	}
	if thousands {
		above *= 1000
	}
	for i := range m.Tiers {
		if m.Tiers[i].Above == above {
			return &m.Tiers[i].Rates, nil
		}
	}
	m.Tiers = append(m.Tiers, budget.Tier{Above: above, Rates: budget.Unset()})
	return &m.Tiers[len(m.Tiers)-1].Rates, nil
}

// readRate reads a price of one token from its JSON text.
func readRate(text json.RawMessage) (int64, error) {
	if first := text[0]; first != '-' && (first < '0' || first > '9') {
		return 0, errNotNumber
	}
	return budget.ParseRate(string(text), 1)
}
