package telemetry

import "strings"

// The labels of the metrics. No value of a label is ever a caller's text: all are constants, or names of the policy.
const (
	LabelTier    = "tier"    // a subject kind of the policy, "global", or TierNone
	LabelLimit   = "limit"   // a limit's name in the policy, LimitOwn or LimitNone
	LabelVerdict = "verdict" // a Verdict constant
	LabelMode    = "mode"    // a Mode constant
	LabelStatus  = "status"  // a Status constant
	LabelEdge    = "edge"    // an Edge constant
	LabelStage   = "stage"   // a Stage constant
	LabelKind    = "kind"    // a Kind constant
	LabelResult  = "result"  // a Result constant
	LabelHash    = "hash"    // the hash of the policy in force
	LabelFlow    = "flow"    // a Flow constant
	LabelModel   = "model"   // the name of a price in the policy, or a Model constant
	LabelEnd     = "end"     // an End constant
	LabelUnit    = "unit"    // what a limit counts: a Unit constant. Limits of one name may count different things
	LabelWindow  = "window"  // a Window constant
)

// The values of LabelVerdict.
const (
	VerdictAllowed = "allowed"
	VerdictDenied  = "denied"
)

// The values of LabelMode: what the verdict is from.
const (
	ModeEnforced   = "enforced"    // the limits, by the store or by a denial that is remembered
	ModeShadow     = "shadow"      // a shadow limit that would have denied; the call is counted elsewhere
	ModeFailedOpen = "failed_open" // the store could not be asked; every tier allows that
	ModeFailedShut = "failed_shut" // the store could not be asked; a tier denies then
	ModeUnmatched  = "unmatched"   // no limit of the policy applies
	ModeDisabled   = "disabled"    // rate limiting is switched off
)

// The values of LabelStatus.
const (
	StatusAllowed     = "allowed"
	StatusRateLimited = "rate_limited"
)

// The values of LabelTier and LabelLimit for an answer that no limit of the policy gave.
const (
	TierNone  = "none"
	LimitNone = "none"
	LimitOwn  = "own" // of an override or a descriptor
)

// The values of LabelEdge.
const (
	EdgeRLS  = "rls"
	EdgeHTTP = "http"
	EdgeCost = "cost" // over gRPC and HTTP
)

// The values of LabelStage: the parts of a decision's time.
const (
	StageEdge  = "edge"  // outside the store
	StageQueue = "queue" // waiting to be sent to the store
	StageStore = "store" // the store's own trip
)

// The values of LabelKind: why the store gave no answer.
const (
	KindUnavailable = "unavailable"
	KindTimeout     = "timeout"
	KindCorrupt     = "corrupt"
	KindFull        = "full"
	KindOther       = "other"
)

// The values of LabelResult: how a policy reload ended.
const (
	ResultLoaded   = "loaded"
	ResultRejected = "rejected"
)

// The values of LabelFlow: what became of money.
const (
	FlowHeld     = "held"     // taken by a reservation, extensions left out
	FlowSettled  = "settled"  // spent, as reported
	FlowReleased = "released" // held and given back
	FlowSaved    = "saved"    // not spent, since the assistant's own cache answered
	FlowOver     = "over"     // spent above what was held
)

// The values of LabelModel beside the names of prices.
const (
	ModelUnknown = "unknown" // the model has no price
	ModelDefault = "default" // the policy's default price was taken
	ModelOther   = "other"   // there are more names than this process counts apart
)

// The values of LabelEnd: how a reservation ended.
const (
	EndSettled  = "settled"
	EndLate     = "late"   // settled after its lease was over
	EndBooked   = "booked" // reported without a hold that is known
	EndReleased = "released"
)

// The values of LabelUnit: the units of limits, as the policy writes them.
const (
	UnitRequests   = "requests"
	UnitTokens     = "tokens"
	UnitUSD        = "usd"
	UnitConcurrent = "concurrent"
	UnitNone       = "none" // of an answer that no limit gave
)

// The values of LabelWindow.
const (
	WindowSliding  = "sliding"
	WindowCalendar = "calendar"
	WindowNone     = "none" // of slots, which have no window
)

// Label makes a text a label's value: one that is not UTF-8 would be refused.
func Label(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }
