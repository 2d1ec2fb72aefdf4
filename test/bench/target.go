package main

import "fmt"

// target is a figure that the benchmark must reach.
type target struct {
	Name    string  `json:"name"`
	Figure  spread  `json:"figure"`
	Bound   float64 `json:"bound"`
	AtMost  bool    `json:"at_most"` // the figure is to stay under the bound instead of above it
	Reached bool    `json:"reached"` // by the median
}

// The targets: shares of the ceiling's throughput, times of its latency, shares of the classic's cost.
const (
	admittedOnRedis  = 0.60
	admittedOnMemory = 0.85
	denied           = 0.75
	openLoopP50      = 2.2
	redisCPU         = 0.40
	redisBytes       = 1.0 / 6
	pairsOnRedis     = 0.45
	oneTrip          = 1.01 // the daemon's health checks are counted with it
)

// judge compares the figures with the targets. A figure that was not measured has no line.
func (r *report) judge() []target {
	var all []target

	add := func(name string, values []float64, bound float64, atMost bool) {
		if len(values) == 0 {
			return
		}

		figure := spreadOf(values)
		reached := figure.Median >= bound

		if atMost {
			reached = figure.Median <= bound
		}

		all = append(all, target{Name: name, Figure: figure, Bound: bound, AtMost: atMost, Reached: reached})
	}

	for _, s := range []shape{oneDescriptor, fourDescriptors} {
		closed := leg{Shape: s}
		add(fmt.Sprintf("calls/s, admitted on Redis, %s", s), r.ratios(redisName, closed), admittedOnRedis, false)
		add(fmt.Sprintf("calls/s, admitted on memory, %s", s), r.ratios(memoryName, closed), admittedOnMemory, false)
		add(fmt.Sprintf("calls/s, denied on Redis, %s", s), r.ratios(redisDeniedName, closed), denied, false)
		add(fmt.Sprintf("calls/s, denied on memory, %s", s), r.ratios(memoryDeniedName, closed), denied, false)
	}

	open := leg{Shape: oneDescriptor, Rate: r.Rate}
	add("open-loop p50, admitted on Redis", r.ratios(redisName, open), openLoopP50, true)
	add("open-loop p50, admitted on memory", r.ratios(memoryName, open), openLoopP50, true)
	add("Redis CPU per decision, of the classic's", r.cpuRatios(), redisCPU, true)

	if r.Bytes != nil {
		add("Redis bytes of a user with 500 hits, of the classic's", []float64{r.Bytes.ratio()}, redisBytes, true)
	}

	add("pairs/s of Reserve and Settle on Redis", r.ratios(costRedisName, leg{Shape: pairShape}), pairsOnRedis, false)

	for _, t := range r.Trips {
		add("round trips to Redis of "+t.Call, []float64{t.most()}, oneTrip, true)
	}

	return all
}

// ratios are a contender's figures as shares of the ceiling's in the same round: calls/s of a closed loop, p50 of an
// open one. A round in which either run is invalid is left out.
func (r *report) ratios(name string, l leg) []float64 {
	var ratios []float64

	for round := range r.Rounds {
		mine, top := r.find(name, l, round), r.find(ceilingName, l, round)
		switch {
		case mine == nil || top == nil || mine.Invalid != "" || top.Invalid != "":
		case l.Rate > 0:
			ratios = append(ratios, float64(mine.P50)/float64(top.P50))
		default:
			ratios = append(ratios, mine.PerSecond/top.PerSecond)
		}
	}

	return ratios
}

// cpuRatios are the Redis CPU times per decision as shares of the classic's in the same round.
func (r *report) cpuRatios() []float64 {
	var ratios []float64

	for round := range r.Rounds {
		mine := r.find(redisName, leg{Shape: oneDescriptor}, round)
		if mine != nil && mine.Invalid == "" && round < len(r.Classic) {
			ratios = append(ratios, mine.RedisCPU/r.Classic[round].RedisCPU)
		}
	}

	return ratios
}

// find returns the run of a contender under a leg in a round; nil if there is none.
func (r *report) find(name string, l leg, round int) *run {
	for _, run := range r.Runs {
		if run.Contender == name && run.Leg == l && run.Round == round {
			return run
		}
	}

	return nil
}
