package engine

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"slices"
	"time"

	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/store"
)

// A reservation's id is a token that says all that its end needs to know: which hold of which subjects it is, and what was asked.
// So any daemon ends a reservation with one trip to the store and without looking it up. It is no secret and proves nothing:
// the checksum finds what was cut or mistyped, and whoever may call may also book without a reservation.
//
// Its bytes, before base64url without padding: version, flags, the hold's id (16), admission, input tokens, cached tokens, the
// model, if unheld the money and tokens that would have been held, the number of subjects and each one's kind, id, plan entry and
// longest windows of money and tokens (milliseconds), and the CRC-32C of all that (4). Numbers are unsigned varints, texts have
// their length before them. Each token has one spelling.

// Bounds of a token.
const (
	// MaxToken is the longest token, in characters.
	MaxToken = 16 << 10
	// maxParts is how many subjects a call with a hold may have, the system as a whole included.
	maxParts = 16

	tokenVersion  = 1
	tokenUnheld   = 1 << 0 // the only flag
	tokenIDBytes  = 16
	tokenChecksum = 4
	tokenHead     = 2 + tokenIDBytes
)

// errToken says that a text is not a token. What is wrong with it helps nobody: it was not made here.
var errToken = errors.New("not a reservation id of this service")

// token is a reservation's id, taken apart.
type token struct {
	id            [tokenIDBytes]byte
	at            int64 // the admission, microseconds since the Unix epoch
	unheld        bool  // given while nothing could be held
	input, cached int64 // tokens
	model         string
	usd, tokens   int64 // what would have been held; only of an unheld one
	parts         []tokenPart
}

// tokenPart is one subject of a reservation.
type tokenPart struct {
	subject     store.Subject
	plan        string // the plan entry that its tier was given; empty for none
	usd, tokens time.Duration
}

// encode writes a token. It is empty if the token would be longer than MaxToken.
func (t *token) encode() string {
	raw := t.append(make([]byte, 0, 160))
	if base64.RawURLEncoding.EncodedLen(len(raw)) > MaxToken {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

func (t *token) append(b []byte) []byte {
	flags := byte(0)
	if t.unheld {
		flags = tokenUnheld
	}
	b = append(b, tokenVersion, flags)
	b = append(b, t.id[:]...)
	b = appendNumber(b, t.at)
	b = appendNumber(b, t.input)
	b = appendNumber(b, t.cached)
	b = appendText(b, t.model)
	if t.unheld {
		b = appendNumber(b, t.usd)
		b = appendNumber(b, t.tokens)
	}
	b = appendNumber(b, int64(len(t.parts)))
	for i := range t.parts {
		p := &t.parts[i]
		b = appendText(b, p.subject.Kind)
		b = appendText(b, p.subject.ID)
		b = appendText(b, p.plan)
		b = appendNumber(b, milliseconds(p.usd))
		b = appendNumber(b, milliseconds(p.tokens))
	}
	return sealed(b)
}

// sealed puts the checksum behind a token's bytes.
func sealed(b []byte) []byte {
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli()))
}

// parseToken reads a token. It errs with errToken for whatever was not written by encode.
func parseToken(text string) (*token, error) {
	if len(text) > MaxToken {
		return nil, errToken
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) < tokenHead+tokenChecksum || raw[0] != tokenVersion || raw[1]&^tokenUnheld != 0 {
		return nil, errToken
	}
	body := raw[:len(raw)-tokenChecksum]
	if crc32.Checksum(body, castagnoli()) != binary.BigEndian.Uint32(raw[len(body):]) {
		return nil, errToken
	}
	t := &token{unheld: raw[1]&tokenUnheld != 0}
	copy(t.id[:], body[2:])
	r := reader{rest: body[tokenHead:]}
	t.read(&r)
	if r.bad || len(r.rest) > 0 || t.encode() != text { // a varint may be longer than it needs to be, and base64 have lines
		return nil, errToken
	}
	return t, nil
}

// read reads what follows the id.
func (t *token) read(r *reader) {
	t.at = r.number(store.MaxAmount)
	t.input = r.number(MaxTokens)
	t.cached = r.number(MaxTokens)
	t.model = r.text(MaxModel)
	if t.unheld {
		t.usd = r.number(store.MaxAmount)
		t.tokens = r.number(store.MaxAmount)
	}
	longest := int64(store.MaxPeriod / time.Millisecond)
	for range r.number(maxParts) {
		t.parts = append(t.parts, tokenPart{
			subject: store.Subject{Kind: r.text(MaxToken), ID: r.text(MaxToken)},
			plan:    r.text(MaxToken),
			usd:     time.Duration(r.number(longest)) * time.Millisecond,
			tokens:  time.Duration(r.number(longest)) * time.Millisecond,
		})
		last := len(t.parts) - 1
		r.bad = r.bad || !t.parts[last].subjectIsValid() || slices.ContainsFunc(t.parts[:last], t.parts[last].sameSubject)
	}
	r.bad = r.bad || len(t.parts) == 0 && !t.unheld
}

func (p tokenPart) subjectIsValid() bool {
	return p.subject.Kind != "" && (p.subject.Kind != policy.GlobalTier || p.subject.ID == "")
}

func (p tokenPart) sameSubject(other tokenPart) bool { return p.subject == other.subject }

// reader takes a token's bytes apart. Once it has found something wrong it returns zeros.
type reader struct {
	rest []byte
	bad  bool
}

// number reads a number of 0 to most.
func (r *reader) number(most int64) int64 {
	n, size := binary.Uvarint(r.rest)
	if r.bad || size <= 0 || n > uint64(most) {
		r.bad = true
		return 0
	}
	r.rest = r.rest[size:]
	return int64(n)
}

// text reads a text of at most so many bytes.
func (r *reader) text(most int64) string {
	n := r.number(min(most, int64(len(r.rest))))
	if r.bad || n > int64(len(r.rest)) {
		r.bad = true
		return ""
	}
	text := string(r.rest[:n])
	r.rest = r.rest[n:]
	return text
}

func appendNumber(b []byte, n int64) []byte { return binary.AppendUvarint(b, uint64(max(n, 0))) }

func appendText(b []byte, text string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

// milliseconds is d in whole milliseconds, rounded up.
func milliseconds(d time.Duration) int64 {
	return int64((d + time.Millisecond - 1) / time.Millisecond)
}

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) } // made once by the package

// bookedFor is how long after its admission a hold that the store does not know is booked. Until then the store would know it if it
// had been settled: answers are kept for an hour longer, which is more than the clocks of store and daemon may differ by.
const bookedFor = store.KeepAnswers - time.Hour

// book is the moment at which to book what the token's hold used if the store does not know the hold: the admission, or 0, for
// never, if the hold may have been settled and forgotten.
func (t *token) book(now time.Time) int64 {
	if now.UnixMicro()-t.at >= bookedFor.Microseconds() {
		return 0
	}
	return max(t.at, 1)
}
