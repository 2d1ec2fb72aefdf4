package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// Bounds of the batcher.
const (
	// maxBatch is how many decisions one script call makes at most: Redis does nothing else meanwhile.
	maxBatch = 64
	// maxBatchChecks is how many checks a batch may hold before it is closed; with the last request's it stays below the
	// 255 that a check's number of windows has room for.
	maxBatchChecks = 128
	// maxQueue is how many decisions may wait to be sent; one more is answered with ErrUnavailable at once.
	maxQueue = 8192
	// senders is how many script calls may be under way at once. A second one joins the first when a whole batch waits or
	// when the first is slow: Redis runs one at a time, and a larger batch costs less per decision.
	senders = 3
	// slow is how long ago the last call may have been sent for a decision to wait for its end.
	slow = 4 * time.Millisecond
)

// job is one decision under way: all of its checks are in one slot. Its caller reads the reply only after done; a caller
// that has gone leaves the job to the sender.
type job struct {
	checks   []store.Check
	keys     []string
	flags    byte
	body     []byte // the request as a script of holds reads it
	slot     int
	asked    time.Time // since when it waits to be sent
	deadline time.Time

	state atomic.Uint32
	done  chan struct{}
	timer *time.Timer
	reply string
	err   error
}

// The states of a job.
const (
	jobWaiting uint32 = iota
	jobAnswered
	jobLeft // the caller has gone
)

func (j *job) answer(reply string, err error) {
	j.reply, j.err = reply, err
	if j.state.CompareAndSwap(jobWaiting, jobAnswered) {
		j.done <- struct{}{}
	}
}

// batcher sends concurrent decisions together. A caller that finds no call under way makes one itself, for all that wait;
// whoever comes meanwhile goes with the next, which a sender makes.
type batcher struct {
	client  redis.UniversalClient
	script  *redis.Script
	build   func(*call, []*job) // lays out the script's keys and arguments
	cluster bool
	clock   func() int64
	onBatch func(int)
	onLapse func(int, int64)
	onWait  func(time.Duration)
	onTrip  func(time.Duration)
	timeout time.Duration

	jobs   sync.Pool       // of *job
	trips  sync.Pool       // of *trip
	ctx    context.Context //nolint:containedctx // ends all calls at Close
	cancel context.CancelFunc
	wait   sync.WaitGroup
	wake   chan struct{} // one token per sender that is to take what waits

	mu       sync.Mutex
	queue    []*job    // what waits to be sent
	sending  int       // callers and senders that are at it
	lastSent time.Time // when the last of them took its batch
}

// trip is what one script call works with.
type trip struct {
	batch []*job
	call  *call
}

func newBatcher(client redis.UniversalClient, script *redis.Script, build func(*call, []*job), opt *Options) *batcher {
	ctx, cancel := context.WithCancel(context.Background())
	b := &batcher{
		client: client, script: script, build: build, cluster: opt.Cluster, clock: opt.clock, onBatch: opt.OnBatch,
		onLapse: opt.OnLapse, onWait: opt.OnQueued, onTrip: opt.OnTrip,
		timeout: opt.Timeout, ctx: ctx, cancel: cancel, wake: make(chan struct{}, senders),
	}
	b.jobs.New = func() any {
		timer := time.NewTimer(time.Hour)
		timer.Stop()
		return &job{done: make(chan struct{}, 1), timer: timer}
	}
	b.trips.New = func() any { return &trip{batch: make([]*job, 0, maxBatch), call: newCall(b.clock)} }
	for range senders {
		b.wait.Go(b.send)
	}
	return b
}

func (b *batcher) close() {
	b.cancel()
	b.wait.Wait()
}

// enqueue adds a job to those that wait. It reports whether there was room, and whether the caller is to make a call.
func (b *batcher) enqueue(j *job, now time.Time) (room, lead bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.queue) >= maxQueue {
		return false, false
	}
	b.queue = append(b.queue, j)
	lead = b.sending == 0 || b.sending < senders && (len(b.queue) >= maxBatch || now.Sub(b.lastSent) > slow)
	if lead {
		b.sending++
		b.lastSent = now // it takes its batch within moments
	}
	return true, lead
}

// take moves a batch of what waits into t. It reports false when nothing waits, or when others at it suffice: then one
// fewer is at it.
func (b *batcher) take(t *trip, first bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	t.batch = t.batch[:0]
	if len(b.queue) == 0 || !first && b.sending > 1 && len(b.queue) < maxBatch {
		b.sending--
		return false
	}
	n, checks := 0, 0
	for n < len(b.queue) && n < maxBatch && checks <= maxBatchChecks {
		checks += len(b.queue[n].checks)
		n++
	}
	t.batch = append(t.batch, b.queue[:n]...)
	left := copy(b.queue, b.queue[n:])
	clear(b.queue[left:])
	b.queue = b.queue[:left]
	b.lastSent = time.Now()
	return true
}

// lead makes one call for what waits, its caller's own decision among it, and leaves the rest to a sender. The caller cannot
// wait for others that have longer: they are answered when its own time is over.
func (b *batcher) lead(until time.Time) {
	t, ok := b.trips.Get().(*trip)
	if !ok {
		t = &trip{batch: nil, call: newCall(b.clock)}
	}
	if !b.take(t, true) {
		return
	}
	b.ask(t, until)
	b.trips.Put(t)
	b.mu.Lock()
	over := len(b.queue) == 0
	if over {
		b.sending--
	}
	b.mu.Unlock()
	if !over {
		b.wake <- struct{}{} // has room for all that can be at it
	}
}

// send takes what waits and asks for it, each time it is woken, until the end.
func (b *batcher) send() {
	t := &trip{batch: make([]*job, 0, maxBatch), call: newCall(b.clock)}
	for {
		select {
		case <-b.wake:
		case <-b.ctx.Done():
			return
		}
		for first := true; b.take(t, first); first = false {
			b.ask(t, time.Time{})
		}
	}
}

// job returns a job to be filled and run.
func (b *batcher) job() (*job, error) {
	j, ok := b.jobs.Get().(*job)
	if !ok {
		return nil, errors.New("redis: the pool of jobs holds something else")
	}
	j.checks, j.keys, j.flags, j.body = j.checks[:0], j.keys[:0], 0, j.body[:0]
	return j, nil
}

// run has a job answered by its deadline, the zero value being the store's timeout. The job is not to be used after it.
func (b *batcher) run(ctx context.Context, j *job, deadline time.Time) (string, error) {
	now := time.Now()
	j.asked, j.deadline = now, deadline
	if j.deadline.IsZero() {
		j.deadline = now.Add(b.timeout)
	}
	if b.cluster {
		j.slot = slotOf(j.keys[0])
	}
	j.state.Store(jobWaiting)
	room, lead := b.enqueue(j, now)
	if !room {
		return "", fmt.Errorf("%w: %d decisions are waiting", store.ErrUnavailable, maxQueue)
	}
	if lead {
		b.lead(j.deadline)
	}
	select {
	case <-j.done: // the caller made the call itself
	default:
		if err := b.outwait(ctx, j); err != nil {
			return "", err
		}
	}
	reply, err := j.reply, j.err
	j.reply, j.err = "", nil
	b.jobs.Put(j)
	return reply, err
}

// outwait returns nil once the job is answered. It errs when the caller's patience is over first; then the job is left to
// whoever answers it.
func (b *batcher) outwait(ctx context.Context, j *job) error {
	var over error
	j.timer.Reset(time.Until(j.deadline))
	defer j.timer.Stop()
	select {
	case <-j.done:
		return nil
	case <-j.timer.C:
		over = store.ErrTimeout
	case <-ctx.Done():
		over = context.Cause(ctx)
	case <-b.ctx.Done():
		over = fmt.Errorf("%w: closed", store.ErrUnavailable)
	}
	if j.state.CompareAndSwap(jobWaiting, jobLeft) {
		return over
	}
	<-j.done
	return nil
}

// ask answers every job of the batch, by `until` or, if that is zero, by the last deadline among them.
func (b *batcher) ask(t *trip, until time.Time) {
	defer clear(t.batch)
	now := time.Now()
	last := now
	live := t.batch[:0]
	for _, j := range t.batch {
		if b.onWait != nil {
			b.onWait(now.Sub(j.asked))
		}
		if !j.deadline.After(now) || j.state.Load() != jobWaiting {
			j.answer("", fmt.Errorf("%w: not sent", store.ErrTimeout))
			continue
		}
		if j.deadline.After(last) {
			last = j.deadline
		}
		live = append(live, j)
	}
	if len(live) == 0 {
		return
	}
	if !until.IsZero() && until.Before(last) {
		last = until
	}
	ctx, cancel := context.WithDeadline(b.ctx, last)
	defer cancel()
	if b.cluster {
		b.askSlots(ctx, now, live)
		return
	}
	b.build(t.call, live)
	replies, err := b.script.EvalSha(ctx, b.client, t.call.keys, t.call.args...).StringSlice()
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		replies, err = b.script.Eval(ctx, b.client, t.call.keys, t.call.args...).StringSlice()
	}
	b.tripped(now)
	b.deliver(live, replies, err)
}

// tripped tells of a trip that was sent then.
func (b *batcher) tripped(sent time.Time) {
	if b.onTrip != nil {
		b.onTrip(time.Since(sent))
	}
}

// askSlots asks on a Cluster: one script call per slot, sent together.
func (b *batcher) askSlots(ctx context.Context, sent time.Time, live []*job) {
	slots := make(map[int][]*job, len(live))
	for _, j := range live {
		slots[j.slot] = append(slots[j.slot], j)
	}
	type asked struct {
		jobs []*job
		call *call
		cmd  *redis.Cmd
	}
	all := make([]asked, 0, len(slots))
	pipe := b.client.Pipeline()
	for _, jobs := range slots {
		call := newCall(b.clock)
		b.build(call, jobs)
		all = append(all, asked{jobs: jobs, call: call, cmd: b.script.EvalSha(ctx, pipe, call.keys, call.args...)})
	}
	_, _ = pipe.Exec(ctx) // each command holds its own error
	b.tripped(sent)
	for _, s := range all {
		replies, err := s.cmd.StringSlice()
		if redis.HasErrorPrefix(err, "NOSCRIPT") {
			replies, err = b.script.Eval(ctx, b.client, s.call.keys, s.call.args...).StringSlice()
		}
		b.deliver(s.jobs, replies, err)
	}
}

func (b *batcher) deliver(jobs []*job, replies []string, err error) {
	if b.onBatch != nil {
		b.onBatch(len(jobs))
	}
	if err == nil && len(replies) == len(jobs)+1 { // behind the answers stands what leases were found over
		b.lapsed(replies[len(jobs)])
		replies = replies[:len(jobs)]
	}
	if err == nil && len(replies) != len(jobs) {
		err = fmt.Errorf("%d answers to %d requests", len(replies), len(jobs))
	}
	if err != nil {
		err = unavailable("deciding", err)
	}
	for i, j := range jobs {
		if err != nil {
			j.answer("", err)
			continue
		}
		j.answer(replies[i], nil)
	}
}

// lapsed tells of leases that a script has found over: how many, and the nano-USD that they leave charged.
func (b *batcher) lapsed(told string) {
	leases, usd, _ := strings.Cut(told, " ")
	n, err := strconv.Atoi(leases)
	nano, malformed := strconv.ParseInt(usd, 10, 64)
	if err == nil && malformed == nil && b.onLapse != nil {
		b.onLapse(n, nano)
	}
}

// unavailable wraps an error of the client or the server as ErrUnavailable, or as ErrTimeout, which is one.
func unavailable(doing string, err error) error {
	if errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
		return fmt.Errorf("%w: %s: %w", store.ErrTimeout, doing, err)
	}
	return fmt.Errorf("%w: %s: %w", store.ErrUnavailable, doing, err)
}
