package policy

import "regexp"

// kind is what a shape describes.
type kind uint8

const (
	objectKind kind = iota // fields that are known by name
	dictKind               // names of the writer's choice, each with a value of one shape
	listKind
	textKind
	flagKind
)

// shape describes one value of the policy format. The reader checks YAML against it, and the JSON Schema is generated
// from it: what a shape says is said once.
type shape struct {
	kind kind
	doc  string // one sentence for editors
	// object: its fields. ExactlyOne names fields of which one, and only one, must stand.
	fields     []field
	exactlyOne []string
	// dict: what its names look like, and in words.
	names     *regexp.Regexp
	namesText string
	// dict and list: what they hold, how many at least, and how many at most; 0 for any number.
	item        *shape
	least, most int
	// text: what it looks like, and in words; or the only values.
	pattern     *regexp.Regexp
	patternText string
	// number is the JSON type of a text that may be written as a number too, "number" or "integer"; it needs a check.
	number string
	values []string
	// reserved are texts, or names in a dict, that would fit and may not be written, since ratelimitd uses them itself.
	reserved []string
	// check refuses what a pattern cannot tell, as an overflow, with what to write instead.
	check    func(string) error
	fallback string // the value of a field that is left out, for editors
	// short is another form of an object or a list: a text that stands for it.
	short *shape
	// define names a shape that stands in more than one place.
	define string
}

// field is one field of an object.
type field struct {
	name     string
	required bool
	shape    *shape
}

// Bounds of a policy. They bound the metric series that a policy can make, too.
const (
	maxFileBytes     = 1 << 20
	maxOverrideBytes = 8 << 10
	maxSubjects      = 8
	maxPlans         = 64
)

var (
	tierName  = regexp.MustCompile(`^[a-z][a-z0-9_]{0,31}$`)
	planName  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)
	limitName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,31}$`)
	someText  = regexp.MustCompile(`[\s\S]`) // anything but nothing
)

// What metrics, spans and logs say in the place of a name: where no tier and no limit decided, and of limits that an override or a
// descriptor brought. They are telemetry.TierNone, LimitNone and LimitOwn, which this package does not know.
const (
	noName  = "none"
	ownName = "own"
)

// policyShape describes a whole policy file.
func policyShape() *shape {
	limits := limitsShape()
	return &shape{
		kind: objectKind, doc: "A policy of ratelimitd: whose requests are limited, and how.",
		fields: []field{
			{name: "domain", required: true, shape: &shape{
				kind: textKind, doc: "The domain of the rate limit calls that this policy answers, as Envoy's filter names it.",
				pattern: someText, patternText: "a name, as assistant",
			}},
			{name: "subjects", required: true, shape: &shape{
				kind: dictKind, doc: "Whose usage is limited: each name is a tier, as user or org.",
				names: tierName, namesText: "lower-case letters, digits and _, a letter first", reserved: []string{noName},
				item: subjectShape(), least: 1, most: maxSubjects,
			}},
			{name: "plans", shape: &shape{
				kind: dictKind, doc: "Named sets of limits.",
				names: planName, namesText: "letters, digits, _, - and .", item: planShape(limits), most: maxPlans,
			}},
			{name: "overrides", shape: &shape{
				kind: listKind, doc: "The policy's list: subjects that have another plan than their tier's default, or their own limits.",
				item: listedShape(limits),
			}},
			{name: "global", shape: &shape{
				kind: objectKind, doc: "The limits of the system as a whole, checked with every subject's.",
				fields: []field{{name: "limits", required: true, shape: limits}, {name: "on_store_failure", shape: failureShape()}},
			}},
			{name: "cost", shape: costShape()},
		},
	}
}

// subjectShape describes one tier.
func subjectShape() *shape {
	return &shape{
		kind: objectKind, doc: "One kind of subject.",
		fields: []field{
			{name: "key", required: true, shape: &shape{
				kind: textKind, doc: "The descriptor entry whose value is the subject's id, as user_id.",
				pattern: someText, patternText: "the key of a descriptor entry, as user_id",
			}},
			{name: "default_plan", shape: &shape{
				kind: textKind, doc: "The plan of a subject that has no other. Without it, such a subject has no limits of its own.",
				pattern: planName, patternText: "the name of a plan",
			}},
			{name: "plan_key", shape: &shape{
				kind: textKind, doc: "The descriptor entry whose value names the subject's plan; read only with trust_plan.",
				pattern: someText, patternText: "the key of a descriptor entry, as plan",
			}},
			{name: "trust_plan", shape: &shape{
				kind: flagKind, fallback: "false",
				doc: "Whether a caller may name the plan. Say true only if clients cannot set the entry themselves.",
			}},
			{name: "on_store_failure", shape: failureShape()},
		},
	}
}

// failureShape describes what a tier answers when the store is lost.
func failureShape() *shape {
	return &shape{
		kind: textKind, doc: "What to answer when the store cannot be asked.",
		values: []string{Allow.String(), Deny.String()}, fallback: Allow.String(),
	}
}

// planShape describes one plan.
func planShape(limits *shape) *shape {
	return &shape{
		kind: objectKind, doc: "A named set of limits.",
		fields: []field{{name: "limits", required: true, shape: limits}},
	}
}

// listedShape describes one entry of the policy's list.
func listedShape(limits *shape) *shape {
	id := &shape{kind: textKind, doc: "A subject's id, in quotes if it is a number.", pattern: someText, patternText: "an id"}
	own := overrideShape(limits)
	return &shape{
		kind: objectKind, doc: "One subject, or several, with a plan or limits of their own.",
		fields: append([]field{
			{name: "subject", required: true, shape: &shape{
				kind: textKind, doc: "The tier, a name from subjects.", pattern: tierName, patternText: "a name from subjects",
			}},
			{name: "id", required: true, shape: &shape{
				kind: listKind, doc: "The subject's id, or a list of ids.", item: id, least: 1, short: id,
			}},
		}, own.fields...),
		exactlyOne: own.exactlyOne,
	}
}

// overrideShape describes an override as it is kept in the store.
func overrideShape(limits *shape) *shape {
	return &shape{
		kind: objectKind, doc: "A subject's own plan or limits.",
		fields: []field{
			{name: "plan", shape: &shape{
				kind: textKind, doc: "The subject's plan.", pattern: planName, patternText: "the name of a plan",
			}},
			{name: "limits", shape: limits},
		},
		exactlyOne: []string{"plan", "limits"},
	}
}

// limitsShape describes a list of limits.
func limitsShape() *shape {
	text := &shape{
		kind: textKind, doc: "An amount per period: " + limitExamples + ".", define: "limit_text",
		pattern: limitShape, patternText: "a limit, as " + limitExamples,
		check: func(text string) error { _, err := parseLimit(text); return err },
	}
	return &shape{
		kind: listKind, define: "limits",
		doc: "Limits that hold together, at most one for a unit and period. An empty list limits nothing.",
		item: &shape{
			kind: objectKind, doc: "A limit with its name, or one that is only watched.", short: text,
			fields: []field{
				{name: "limit", required: true, shape: text},
				{name: "name", shape: &shape{
					kind: textKind,
					doc: "The limit's name in metrics and statistics; by default its period, for a calendar window with calendar_ " +
						"before it.",
					pattern: limitName, patternText: "at most 32 lower-case letters, digits, _ and -", reserved: []string{noName, ownName},
				}},
				{name: "shadow", shape: &shape{
					kind: flagKind, doc: "Evaluate and count the limit, but never enforce it.", fallback: "false",
				}},
				{name: "window", shape: valuesShape("Whether the window slides or is the calendar's day, week, month or year; calendar is "+
					"for limits of USD and tokens.", slidingWindow, calendarWindow)},
				{name: "timezone", shape: &shape{
					kind: textKind, doc: "Where the days of a calendar window begin.", fallback: "UTC",
					pattern: zoneShaped, patternText: zoneText,
					check: func(text string) error { _, err := parseZone(text); return err },
				}},
			},
		},
	}
}
