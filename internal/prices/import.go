// Package prices reads price lists of others and writes them as ours.
package prices

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/ratelimitd/ratelimitd/internal/budget"
)

// maxBytes bounds a list that is read.
const maxBytes = 32 << 20

// ErrList says that a text is no price list in LiteLLM's format.
var ErrList = errors.New("not a model_prices_and_context_window.json")

// List is what was read of a price list.
type List struct {
	SHA256   string // of the list as it was read, in hex
	Rows     int    // all rows that it has
	Models   []Model
	Rejected []Rejection // in the order of the list
}

// Model is what one model costs.
type Model struct {
	Name  string
	Rates budget.Rates
	Tiers []budget.Tier // by their bounds
	// Unread names the costs of the row that are not those of tokens, or of tokens that are not counted here.
	Unread []string
}

// Rejection is a row that cannot be used.
type Rejection struct {
	Name, Why string
}

// String returns the rejection as one line.
func (r Rejection) String() string {
	name := r.Name
	if len(name) > longestName {
		name = name[:longestName] + "..."
	}
	return fmt.Sprintf("%q: %s", name, r.Why)
}

// Import reads a list in the format of LiteLLM's model_prices_and_context_window.json: an object of rows by the models' names.
// Prices are read from their text, never by way of a float. Models are sorted by their names. It errs if the text is not such a
// list, or is larger than 32 MiB; a row that cannot be used is told in the list.
func Import(from io.Reader) (*List, error) {
	data, err := io.ReadAll(io.LimitReader(from, maxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read the list: %w", err)
	}
	if len(data) > maxBytes {
		return nil, fmt.Errorf("%w: larger than 32 MiB", ErrList)
	}
	sum := sha256.Sum256(data)
	list := &List{SHA256: hex.EncodeToString(sum[:])}
	if err := list.read(json.NewDecoder(bytes.NewReader(data))); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrList, err)
	}
	slices.SortFunc(list.Models, func(a, b Model) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

var (
	errNoObject = errors.New("it must be one JSON object of rows by the models' names")
	errMore     = errors.New("more follows behind its end")
)

// read goes through the rows.
func (l *List) read(from *json.Decoder) error {
	if start, err := from.Token(); err != nil {
		return fmt.Errorf("%w: %w", errNoObject, err)
	} else if start != json.Delim('{') {
		return errNoObject
	}
	seen := map[string]bool{}
	for from.More() {
		token, err := from.Token()
		if err != nil {
			return fmt.Errorf("row %d: %w", l.Rows+1, err)
		}
		name, _ := token.(string) // a decoder takes no other key
		var row json.RawMessage
		if err := from.Decode(&row); err != nil {
			return fmt.Errorf("row %d: %w", l.Rows+1, err)
		}
		l.Rows++
		l.add(name, row, seen)
	}
	if _, err := from.Token(); err != nil {
		return fmt.Errorf("behind row %d: %w", l.Rows, err)
	}
	if _, err := from.Token(); !errors.Is(err, io.EOF) {
		return errMore
	}
	return nil
}

// add takes a row, or says why it cannot be used.
func (l *List) add(name string, text json.RawMessage, seen map[string]bool) {
	model, err := readRow(name, text)
	if err == nil && seen[name] {
		err = errTwice
	}
	if err != nil {
		l.Rejected = append(l.Rejected, Rejection{Name: name, Why: err.Error()})
		return
	}
	seen[name] = true
	l.Models = append(l.Models, model)
}
