package main

import (
	crand "crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime/pprof"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// job is what the load generator process is asked to do.
type job struct {
	Addr    string        `json:"addr"`
	Shape   shape         `json:"shape"`
	Expect  verdict       `json:"expect"`
	Callers int           `json:"callers"` // at once; in an open loop, the most that may be in flight
	Conns   int           `json:"conns"`   // client connections, shared by the callers
	Users   int           `json:"users"`   // a call's user is drawn evenly
	Sweeps  int           `json:"sweeps"`  // not 0: instead of a timed run, ask this many times for every user in turn
	Warmup  time.Duration `json:"warmup"`  // unmeasured load before the run
	Length  time.Duration `json:"length"`  // the measured run
	Rate    int           `json:"rate"`    // calls/s of an open loop; 0 for a closed loop
	Profile string        `json:"profile"` // file for a CPU profile of the load generator; empty for none
}

// tally is what a load generator process has seen.
type tally struct {
	Calls  int           `json:"calls"` // measured calls
	Asked  int           `json:"asked"` // all calls, warm-up included
	Wrong  int           `json:"wrong"` // calls that failed or whose verdict was wrong, warm-up included
	Sample string        `json:"sample,omitempty"`
	Wall   time.Duration `json:"wall_ns"`
	Late   latencies     `json:"late"` // open loop: how late calls were started, already part of their latency

	Settled     int64 `json:"settled_nano_usd,omitempty"` // of pairs: what they cost, warm-up included
	AnswerBytes int   `json:"answer_bytes,omitempty"`     // of the cost API: what one call or pair is answered with
	latencies
}

// callsPerSecond is the throughput of the measured part.
func (t *tally) callsPerSecond() float64 { return float64(t.Calls) / t.Wall.Seconds() }

// runLoad is the load generator process: a job as JSON on in, its tally as JSON on out.
func runLoad(in io.Reader, out io.Writer) error {
	var j job
	if err := json.NewDecoder(in).Decode(&j); err != nil {
		return fmt.Errorf("read the job: %w", err)
	}

	g, err := newGenerator(&j)
	if err != nil {
		return err
	}
	defer g.close()

	if j.Profile != "" {
		file, err := os.Create(j.Profile)
		if err != nil {
			return fmt.Errorf("create the load generator's profile: %w", err)
		}
		defer file.Close() // a profile that is cut short says so when it is read

		if err := pprof.StartCPUProfile(file); err != nil {
			return fmt.Errorf("start the load generator's profile: %w", err)
		}
		defer pprof.StopCPUProfile()
	}

	t, err := g.run()
	if err != nil {
		return err
	}

	if err := json.NewEncoder(out).Encode(t); err != nil {
		return fmt.Errorf("write the tally: %w", err)
	}

	return nil
}

// generator drives one server.
type generator struct {
	job     *job
	users   []string
	conns   []*grpc.ClientConn
	callers []*caller
}

// caller asks one thing at a time, and keeps what came of it.
type caller struct {
	asker
	rand    *rand.Rand
	samples []time.Duration
	late    []time.Duration
	asked   int
	wrong   int
	sample  error // the first wrong answer
}

// newGenerator connects, and errs when the job makes no sense. Nothing is asked yet.
func newGenerator(j *job) (*generator, error) {
	if j.Callers < 1 || j.Conns < 1 || j.Users < 1 {
		return nil, errors.New("a job needs at least one caller, one connection and one user")
	}

	g := &generator{job: j, users: userNames(j.Users)}

	for range j.Conns {
		conn, err := grpc.NewClient(j.Addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			g.close()

			return nil, fmt.Errorf("connect to %s: %w", j.Addr, err)
		}

		g.conns = append(g.conns, conn)
	}

	process := crand.Text()

	for i := range j.Callers {
		asks, err := newAsker(j, g.conns[i%len(g.conns)], process, i)
		if err != nil {
			g.close()

			return nil, err
		}

		g.callers = append(g.callers, &caller{
			asker: asks,
			rand:  rand.New(rand.NewPCG(uint64(i), 1)), //nolint:gosec // which user asks next is no secret
		})
	}

	return g, nil
}

// close ends the connections.
func (g *generator) close() {
	for _, conn := range g.conns {
		_ = conn.Close() // nothing is in flight
	}
}

// run does the job.
func (g *generator) run() (*tally, error) {
	if g.job.Sweeps > 0 {
		return g.tally(g.sweep()), nil
	}

	if _, err := g.loop(g.job.Warmup); err != nil {
		return nil, err
	}

	for _, c := range g.callers {
		c.samples, c.late = c.samples[:0], c.late[:0]
	}

	wall, err := g.loop(g.job.Length)

	return g.tally(wall), err
}

// loop drives the server for some time, open or closed as the job says.
func (g *generator) loop(length time.Duration) (time.Duration, error) {
	if g.job.Rate > 0 {
		return g.openLoop(length)
	}

	return g.closedLoop(length), nil
}

// sweep asks for every user in turn.
func (g *generator) sweep() time.Duration {
	started := time.Now()

	g.each(func(i int, c *caller) {
		for range g.job.Sweeps {
			for user := i; user < len(g.users); user += len(g.callers) {
				begun := time.Now()
				c.call(g.users[user])
				c.samples = append(c.samples, time.Since(begun))
			}
		}
	})

	return time.Since(started)
}

// closedLoop lets every caller ask again as soon as it has its answer, and returns the time from the first call to the
// last answer.
func (g *generator) closedLoop(length time.Duration) time.Duration {
	started := time.Now()
	end := started.Add(length)

	g.each(func(_ int, c *caller) {
		for begun := time.Now(); begun.Before(end); {
			c.call(g.users[c.rand.IntN(len(g.users))])

			done := time.Now()
			c.samples = append(c.samples, done.Sub(begun))
			begun = done
		}
	})

	return time.Since(started)
}

// each runs one goroutine per caller and waits for all of them.
func (g *generator) each(run func(i int, c *caller)) {
	var all sync.WaitGroup
	for i, c := range g.callers {
		all.Go(func() { run(i, c) })
	}

	all.Wait()
}

// call asks for one user and checks the answer.
func (c *caller) call(user string) {
	c.asked++

	if err := c.ask(user); err != nil {
		c.wrong++

		if c.sample == nil {
			c.sample = err
		}
	}
}

// tally sums up what the callers saw in a measured part of this length.
func (g *generator) tally(wall time.Duration) *tally {
	t := &tally{Wall: wall}
	samples := make([][]time.Duration, len(g.callers))
	late := make([][]time.Duration, len(g.callers))

	for i, c := range g.callers {
		samples[i], late[i] = c.samples, c.late
		t.Calls += len(c.samples)
		t.Asked += c.asked
		t.Wrong += c.wrong

		c.addTo(t)

		if c.sample != nil && t.Sample == "" {
			t.Sample = c.sample.Error()
		}
	}

	t.latencies = percentiles(samples)
	t.Late = percentiles(late)

	return t
}
