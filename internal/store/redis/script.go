package redis

import (
	_ "embed"
	"regexp"
	"strings"

	"github.com/redis/go-redis/v9"
)

// The scripts. Each is log.lua and a main part of its own, over a clock; those of holds have ledger.lua and holds.lua besides.
var (
	//go:embed clock.lua
	clockLua string
	//go:embed names.lua
	namesLua string
	//go:embed log.lua
	logLua string
	//go:embed admit.lua
	admitLua string
	//go:embed refund.lua
	refundLua string
	//go:embed override.lua
	overrideLua string
	//go:embed ledger.lua
	ledgerLua string
	//go:embed holds.lua
	holdsLua string
	//go:embed reserve.lua
	reserveLua string
	//go:embed settle.lua
	settleLua string
)

// testClockLua reads the time from the last argument instead: time is an argument to a test.
const testClockLua = `
local arguments = #ARGV - 1
local function read_clock() return tonumber(ARGV[#ARGV]) end
`

type scripts struct {
	admit, refund, override, reserve, settle *redis.Script
}

func newScripts(testClock bool) scripts {
	clock := clockLua
	if testClock {
		clock = testClockLua
	}
	build := func(main ...string) *redis.Script {
		return redis.NewScript(inline(nest(append([]string{clock + namesLua, logLua}, main...))))
	}
	return scripts{
		admit: build(admitLua), refund: build(refundLua), override: build(overrideLua),
		reserve: build(ledgerLua, holdsLua, reserveLua), settle: build(ledgerLua, holdsLua, settleLua),
	}
}

// nest puts each part of a script into a function of its own, within the part before. A script's functions are made anew by each
// call. For each variable of its own part that a function uses, Lua then looks through all variables that are used so; what comes
// from a part around it is at hand.
func nest(parts []string) string {
	return strings.Join(parts, "\nreturn (function()\n") + strings.Repeat("\nend)()", len(parts)-1)
}

// inline puts the values of a script's constants in their place, and leaves out comments and indentation. A constant is a
// name in capitals that a line of its own at the left margin sets to a number or a quoted string without commas:
//
//	local ENTRY, ENTRY_SIZE = '>I7I7', 14
//
// Names in capitals must not stand in strings.
func inline(source string) string {
	var (
		declaration = regexp.MustCompile(`^local ([A-Z][A-Z_0-9]*(?:, [A-Z][A-Z_0-9]*)*) = ('[^',]*'|[0-9]+)((?:, (?:'[^',]*'|[0-9]+))*)$`)
		word        = regexp.MustCompile(`'[^']*'|[A-Za-z_][A-Za-z_0-9]*`)
		values      = make(map[string]string)
		out         strings.Builder
	)
	for line := range strings.Lines(source) {
		line, _, _ = strings.Cut(line, "--")
		line = strings.TrimRight(line, " \n")
		if m := declaration.FindStringSubmatch(line); m != nil {
			set := strings.Split(m[2]+m[3], ", ")
			for i, name := range strings.Split(m[1], ", ") {
				values[name] = set[i]
			}
			continue
		}
		line = strings.TrimLeft(line, " ")
		if line == "" {
			continue
		}
		out.WriteString(word.ReplaceAllStringFunc(line, func(w string) string {
			if v, ok := values[w]; ok {
				return v
			}
			return w
		}))
		out.WriteByte('\n')
	}
	return out.String()
}
