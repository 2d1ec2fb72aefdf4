package redis

import (
	_ "embed"
	"strings"

	"github.com/redis/go-redis/v9"
)

// The scripts. Each is log.lua and a main part of its own, over a clock.
var (
	//go:embed clock.lua
	clockLua string
	//go:embed log.lua
	logLua string
	//go:embed admit.lua
	admitLua string
	//go:embed refund.lua
	refundLua string
	//go:embed override.lua
	overrideLua string
)

// testClockLua reads the time from the last argument instead: time is an argument to a test.
const testClockLua = `
local arguments = #ARGV - 1
local function read_clock() return tonumber(ARGV[#ARGV]) end
`

type scripts struct {
	admit, refund, override *redis.Script
}

func newScripts(testClock bool) scripts {
	clock := clockLua
	if testClock {
		clock = testClockLua
	}
	build := func(main string) *redis.Script {
		return redis.NewScript(strings.Join([]string{clock, logLua, main}, "\n"))
	}
	return scripts{admit: build(admitLua), refund: build(refundLua), override: build(overrideLua)}
}
