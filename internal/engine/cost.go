package engine

import (
	"time"

	"github.com/ratelimitd/ratelimitd/internal/budget"
	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/store"
)

// Bounds of what callers of the cost API may send. The edge refuses what is beyond them, field by field, so that the engine is
// never asked it.
const (
	// MinTTL is the shortest lease of a reservation.
	MinTTL = store.MinLease
	// DefaultTTL is the lease of a reservation that names none.
	DefaultTTL = 30 * time.Second
	// MaxTTL is the longest lease of a reservation.
	MaxTTL = store.MaxLease
	// MaxWait bounds how long a reservation may wait for a slot.
	MaxWait = 5 * time.Minute
	// MaxTokens bounds each count of tokens of a call: 1e12.
	MaxTokens = 1_000_000_000_000
	// MaxID bounds user ids, plans, and the keys and values of subjects and tags, bytes.
	MaxID = 512
	// MaxModel bounds a model's name, bytes.
	MaxModel = 256
	// MaxKey bounds an idempotency key, bytes.
	MaxKey = 256
	// MaxEntries bounds the subjects and tags of a call, together.
	MaxEntries = 14
)

// Spender is for whom a call spends. It is turned into one descriptor: the policy says which of its entries are subjects.
type Spender struct {
	UserID string // required
	Plan   string // the value of the user tier's plan entry; read only where the policy trusts it
	Model  string // the value of the entry "model"
	// Subjects and Tags are further descriptor entries, as {"org_id": "acme"}; a tag's key gets the prefix "tag.".
	Subjects, Tags map[string]string
}

// Ask is what a model call is expected to use.
type Ask struct {
	InputTokens       int64 // that are not read from a cache
	CachedInputTokens int64 // read from the provider's prompt cache
	MaxOutputTokens   int64
	// MaxCost holds this much in place of what the tokens would cost at most, nano-USD; 0 to price the tokens.
	MaxCost int64
}

// Reservation asks to hold a request, tokens, a slot and money for a model call.
type Reservation struct {
	Spender Spender
	Ask     Ask
	Key     string        // the caller's idempotency key; empty for none: then every call is another reservation
	TTL     time.Duration // the lease; 0 for DefaultTTL
	NoSlot  bool          // takes no slot
	Partial bool          // grants the largest output that fits, at least one token
	Wait    time.Duration // how long to wait for a slot, in order of arrival
}

// Grant is the answer to a reservation.
type Grant struct {
	ReservationID       string
	HeldUSD             int64 // nano-USD
	GrantedOutputTokens int64
	ExpiresAt           time.Time
	Heartbeat           time.Duration // extend at least this often: a third of the lease
	Limits              []LimitState  // as they stand now
	Warnings            []Warning
	Repeat              bool
	Status              store.HoldStatus // Active; of a repeat, what has become of it; NoHold if nothing is held
}

// Warning is something that a caller should know though the call was answered: a code and a sentence.
type Warning struct {
	Code, Text string
}

// The codes of warnings.
const (
	WarnPriceUnknown     = "PRICE_UNKNOWN"     // the model has no price: the policy let the call through at no or a default price
	WarnStoreUnavailable = "STORE_UNAVAILABLE" // nothing is held: the policy lets calls through while the store is away
	WarnPartial          = "PARTIAL"           // fewer output tokens were granted than asked for
	WarnShadow           = "SHADOW_LIMIT"      // a shadow limit would have denied the call
	WarnDisabled         = "DISABLED"          // nothing is held or booked: rate limiting is switched off
	WarnUsageUnknown     = "USAGE_UNKNOWN"     // no usage was reported: the policy says what was charged
)

// LimitState is one limit as it stands.
type LimitState struct {
	Tier, ID, Plan string
	Limit          policy.Limit
	Used           int64     // of the limit's unit; held included
	Held           int64     // of tokens and USD: what open reservations hold of the subject, over all windows
	Resets         time.Time // when the oldest live hit leaves; the zero time if none is live
}

// QuoteAsk asks what a call would cost, and whether it would be admitted now.
type QuoteAsk struct {
	Spender Spender
	Ask     Ask
	// ExpectedOutputTokens is what the model is likely to answer with; 0 for Ask.MaxOutputTokens. It is of the expected cost only.
	ExpectedOutputTokens int64
}

// Quotation is what a call would cost and whether it would be admitted now. Nothing has changed.
type Quotation struct {
	ExpectedUSD, MaximumUSD int64 // nano-USD
	Admitted                bool
	Binding                 *Denial // why not; nil if it would be admitted
	// MaxOutputTokens is the largest output that still fits, over all limits; 0 if none does.
	MaxOutputTokens int64
	Limits          []LimitState
	Warnings        []Warning
}

// Extension renews a lease, and asks for more.
type Extension struct {
	ReservationID string
	TTL           time.Duration // 0 for DefaultTTL
	// MaxOutputTokens and MaxCost (nano-USD) are what the call may use in all, not in addition; 0 for what it has.
	MaxOutputTokens, MaxCost int64
}

// Extended is the answer to an extension.
type Extended struct {
	ExpiresAt time.Time
	HeldUSD   int64 // nano-USD
	Heartbeat time.Duration
	// MustStop says that what was asked for cannot be had: the stream must end within what is held. Denial says why.
	MustStop bool
	Denial   *Denial
}

// Settlement is what a model call has really used.
type Settlement struct {
	ReservationID string
	Usage         *budget.Usage // nil: not known
	Model         string        // that really ran; empty for the reserved one
	Outcome       string        // of policy.Outcomes, or empty: without a usage it chooses the policy's on_unknown_usage
	CacheHit      bool          // answered from the assistant's own cache: costs nothing
	ProviderCost  *int64        // what the provider says it costs, nano-USD: taken in place of the price table's; nil if it says nothing
}

// Receipt is the answer to a settlement, a release and a record.
type Receipt struct {
	CostUSD     int64 // nano-USD, as are all amounts here
	Breakdown   budget.Breakdown
	ReleasedUSD int64 // held and not spent
	OverageUSD  int64 // spent above what was held
	SavedUSD    int64 // what the cache saved
	Duplicate   bool  // an earlier call has done it
	Late        bool  // the lease was over before
	Status      store.HoldStatus
	Warnings    []Warning
}

// Record is a model call that was made without a reservation.
type Record struct {
	Spender      Spender
	Key          string // required: the same key is booked once
	Usage        budget.Usage
	Occurred     time.Time // zero for now
	CacheHit     bool
	ProviderCost *int64 // as of a Settlement, nano-USD
}
