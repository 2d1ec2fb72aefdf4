package cost

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ratelimitd/ratelimitd/internal/budget"
	"github.com/ratelimitd/ratelimitd/internal/engine"
	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/store"
)

// maxMoneyText is the longest text of an amount of money, bytes. The largest amount has 17.
const maxMoneyText = 32

// violation is what is wrong with one field of a request.
type violation struct{ field, what string }

// fieldError says what is wrong with a request, field by field.
type fieldError []violation

// Error names each field, what is wrong with it and what to send instead.
func (e fieldError) Error() string {
	var b strings.Builder
	for i, v := range e {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(v.field + " " + v.what)
	}
	return b.String()
}

func badField(field, what string) error { return fieldError{{field, what}} }

// fields reads a request's fields and keeps what is wrong with them. Its methods return the field's value, which means
// nothing if it is wrong.
type fields struct{ wrong fieldError }

// err is nil if nothing is wrong.
func (f *fields) err() error {
	if len(f.wrong) == 0 {
		return nil
	}
	return f.wrong
}

func (f *fields) bad(field, what string, args ...any) {
	f.wrong = append(f.wrong, violation{field, fmt.Sprintf(what, args...)})
}

// text is a text of up to most bytes, which may be empty.
func (f *fields) text(field, text string, most int) string {
	switch {
	case len(text) > most:
		f.bad(field, "is %d bytes long: send at most %d", len(text), most)
	case !utf8.ValidString(text):
		f.bad(field, "is not UTF-8")
	case strings.IndexByte(text, 0) >= 0:
		f.bad(field, "holds the character NUL: leave it out")
	}
	return text
}

// required is a text of 1 to most bytes.
func (f *fields) required(field, text string, most int) string {
	if text == "" {
		f.bad(field, "is empty: send 1 to %d bytes", most)
	}
	return f.text(field, text, most)
}

// entries are subjects and tags: together at most engine.MaxEntries.
func (f *fields) entries(subjects, tags map[string]string) {
	if n := len(subjects) + len(tags); n > engine.MaxEntries {
		f.bad("subjects", "and tags have %d entries: send at most %d together", n, engine.MaxEntries)
		return
	}
	check := func(field string, entries map[string]string) {
		for _, key := range slices.Sorted(maps.Keys(entries)) {
			before := len(f.wrong)
			f.required(field+" key", key, engine.MaxID)
			if len(f.wrong) == before {
				f.required(field+"["+key+"]", entries[key], engine.MaxID)
			}
		}
	}
	check("subjects", subjects)
	check("tags", tags)
}

// tokens is a count of tokens.
func (f *fields) tokens(field string, n int64) int64 {
	if n < 0 || n > engine.MaxTokens {
		f.bad(field, "is %d: send 0 to %d tokens", n, int64(engine.MaxTokens))
	}
	return n
}

// money is an amount of USD, nano-USD; given is false if the text is empty.
func (f *fields) money(field, text string) (nano int64, given bool) {
	if text == "" {
		return 0, false
	}
	if len(text) > maxMoneyText {
		f.bad(field, "is %d bytes long: send an amount of USD as 0.25, of at most %d bytes", len(text), maxMoneyText)
		return 0, true
	}
	if strings.Trim(text, "0123456789.") != "" {
		f.bad(field, "is %q: send an amount of USD as 0.25, with digits and at most one point", strings.ToValidUTF8(text, "?"))
		return 0, true
	}
	nano, err := budget.ParseMoney(text)
	switch {
	case err != nil:
		f.bad(field, "is wrong: %v", err)
	case nano > store.MaxAmount:
		f.bad(field, "is %s: send 0 to %s USD", text, budget.FormatMoney(store.MaxAmount))
	}
	return nano, true
}

// maxCost is an amount to hold, nano-USD: more than 0, or 0 if the text is empty.
func (f *fields) maxCost(field, text string) int64 {
	before := len(f.wrong)
	nano, given := f.money(field, text)
	if given && nano == 0 && len(f.wrong) == before {
		f.bad(field, "is 0: send more, or leave it out so that the tokens are priced")
	}
	return nano
}

// duration is a time of least to most; 0 if it is unset.
func (f *fields) duration(field string, d *durationpb.Duration, least, most time.Duration) time.Duration {
	if d == nil {
		return 0
	}
	if err := d.CheckValid(); err != nil {
		f.bad(field, "is not a valid duration: send %v to %v", least, most)
		return 0
	}
	value := d.AsDuration()
	if value < least || value > most {
		f.bad(field, "is %v: send %v to %v", value, least, most)
	}
	return value
}

// moment is a time after 1970-01-01; the zero time if it is unset.
func (f *fields) moment(field string, t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	if err := t.CheckValid(); err != nil || t.AsTime().UnixMicro() <= 0 {
		f.bad(field, "must be a time after 1970-01-01T00:00:00Z, or unset for now")
		return time.Time{}
	}
	return t.AsTime()
}

// reservation is a reservation's id: of the characters of base64url, which is all that one is made of.
func (f *fields) reservation(id string) string {
	const field = "reservation_id"
	switch {
	case id == "" || len(id) > MaxReservationID:
		f.bad(field, "is %d bytes long: send the id that Reserve answered with, of 1 to %d", len(id), MaxReservationID)
	case strings.ContainsFunc(id, notBase64URL):
		f.bad(field, "has a character that no id has: send the id as Reserve answered with it")
	}
	return id
}

func notBase64URL(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '-', r == '_':
		return false
	default:
		return true
	}
}

// outcome is how a call ended, a word of policy.Outcomes; empty if it is unset.
func (f *fields) outcome(word string) string {
	words := policy.Outcomes()
	if last := len(words) - 1; word != "" && !slices.Contains(words, word) {
		f.bad("outcome", "is no outcome: send %s or %s, or leave it out", strings.Join(words[:last], ", "), words[last])
	}
	return word
}
