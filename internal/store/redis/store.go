// Package redis keeps usage in Redis: a single server, a Sentinel's master or a Cluster.
//
// A decision is one Lua script; concurrent decisions share a call. On a Cluster a call can reach the keys of one slot only,
// so a decision over several subjects is taken subject by subject and undone where a later one denies: see cluster.go.
package redis

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// Store keeps usage in Redis. It is safe for concurrent use.
type Store struct {
	opt     Options
	client  redis.UniversalClient
	scripts scripts
	batch   *batcher // of plain requests
	reserve *batcher // of all other decisions
	settles *batcher
	changes *changes
	undos   chan struct{} // a token per undo under way in the background
}

var _ store.Store = (*Store)(nil)

// New returns a store over the Redis that opt names. It does not connect: a Redis that is away is an error of each call
// until it is there.
func New(opt Options) (*Store, error) {
	full, err := opt.withDefaults()
	if err != nil {
		return nil, err
	}
	client := full.connect()
	s := &Store{opt: full, client: client, scripts: newScripts(full.clock != nil), undos: make(chan struct{}, maxUndos)}
	s.batch = newBatcher(client, s.scripts.admit, buildChecks, &full)
	s.reserve = newBatcher(client, s.scripts.reserve, buildBodies, &full)
	s.settles = newBatcher(client, s.scripts.settle, buildBodies, &full)
	s.changes = newChanges(client)
	return s, nil
}

// Admit decides a request; see store.Store.
func (s *Store) Admit(ctx context.Context, req *store.Request, ans *store.Answer) error {
	if err := begin(ctx, req, req.Validate(), ans); err != nil {
		return err
	}
	if len(req.Checks) == 0 && req.Hold == nil {
		ans.Admitted, ans.Now = true, time.Now().UnixMicro()
		return nil
	}
	if s.opt.Cluster && severalSubjects(req) {
		return s.admitBySteps(ctx, req, ans)
	}
	flags := byte(0)
	if req.Look {
		flags = dryRun
	}
	return s.decide(ctx, req, req.Checks, flags, ans, nil)
}

// decide asks for checks of one slot, with the request's hold.
func (s *Store) decide(
	ctx context.Context, req *store.Request, checks []store.Check, flags byte, ans *store.Answer, at []int64,
) error {
	if req.Hold != nil || !onlyRequests(checks) { // one without limits names its subject, which is for holds
		return s.reserve.hold(ctx, req, checks, flags, ans, at)
	}
	return s.batch.decide(ctx, checks, flags, req.Deadline, ans, at)
}

func onlyRequests(checks []store.Check) bool {
	for i := range checks {
		if checks[i].Unit != store.Requests || len(checks[i].Limits) == 0 {
			return false
		}
	}
	return true
}

func severalSubjects(req *store.Request) bool {
	for i := range req.Checks {
		if req.Checks[i].Subject != req.Checks[0].Subject {
			return true
		}
	}
	return false
}

// begin empties the answer, and errs if nothing is to be sent for a request: it is bad, or its time is over.
func begin(ctx context.Context, req *store.Request, bad error, ans *store.Answer) error {
	reset(ans)
	if bad != nil {
		return fmt.Errorf("redis store: %w", bad)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if !req.Deadline.IsZero() && !time.Now().Before(req.Deadline) {
		return fmt.Errorf("%w: the deadline had passed", store.ErrTimeout)
	}
	return nil
}

func reset(ans *store.Answer) {
	ans.Admitted, ans.Now = false, 0
	ans.States, ans.Seqs, ans.Stale, ans.Held = ans.States[:0], ans.Seqs[:0], ans.Stale[:0], ans.Held[:0]
	ans.Hold = store.HoldState{}
}

// Refund gives hits back; see store.Store. On a Cluster each subject gives back its own newest hits.
func (s *Store) Refund(ctx context.Context, req *store.Request, ans *store.Answer) (int64, error) {
	if err := begin(ctx, req, req.ValidateRefund(), ans); err != nil {
		return 0, err
	}
	if len(req.Checks) == 0 {
		ans.Admitted, ans.Now = true, time.Now().UnixMicro()
		return 0, nil
	}
	ctx, cancel := s.bound(ctx, req.Deadline)
	defer cancel()
	if req.At != 0 {
		return s.refundAt(ctx, req, ans)
	}
	if s.opt.Cluster && len(req.Checks) > 1 {
		return s.refundBySteps(ctx, req, ans)
	}
	given, _, err := s.refund(ctx, req.Checks, piecewise{}, ans)
	return given, err
}

// piecewise says which hits of one check to give back, in place of its newest.
type piecewise struct {
	pieces string // '>I7I7' each: time and amount
	mark   string // names an undo: it is done at most once
}

// refund runs refund.lua over checks of one slot. It returns what the first gave back, and in which pieces.
func (s *Store) refund(
	ctx context.Context, checks []store.Check, by piecewise, ans *store.Answer,
) (given int64, pieces string, err error) {
	keys := make([]string, 0, len(checks)+1)
	var specs []byte
	raw := []byte{0, byte(len(checks))}
	for i := range checks {
		c := &checks[i]
		keys = append(keys, logKey(c.Subject, c.Unit))
		specs = appendSpec(specs, c.Unit, c.Limits)
		raw = appendCheck(raw, i+1, i+1, c.Amount, c.Override)
	}
	if by.mark != "" {
		raw[0] = undoFlag
		keys = append(keys, subjectKey(checks[0].Subject)+"x:"+by.mark)
	}
	args := []any{specs, raw, by.pieces, changeChannel}
	for i := range checks {
		args = append(args, encodeChange(checks[i].Subject))
	}
	reply, err := s.run(ctx, s.scripts.refund, keys, args).StringSlice()
	if err != nil {
		return 0, "", unavailable("refunding", err)
	}
	if len(reply) != refundParts {
		return 0, "", fmt.Errorf("%w: %d parts in the answer to a refund", errShort, len(reply))
	}
	given, err = strconv.ParseInt(reply[0], 10, 64)
	if err != nil {
		return 0, "", fmt.Errorf("reading the answer to a refund: %w", err)
	}
	if err := decodeAnswer(reply[1], checks, ans, nil); err != nil {
		return 0, "", err
	}
	if given > 0 {
		for i := range checks {
			s.changes.tell(store.Change{Subject: checks[i].Subject})
		}
	}
	return given, reply[2], nil
}

// refundParts is how many parts refund.lua answers in: what was given back, the answer, the pieces.
const refundParts = 3

// run runs a script with the test's clock, if any, as its last argument.
func (s *Store) run(ctx context.Context, script *redis.Script, keys []string, args []any) *redis.Cmd {
	if s.opt.clock != nil {
		args = append(args, s.opt.clock())
	}
	return script.Run(ctx, s.client, keys, args...)
}

func (s *Store) bound(ctx context.Context, deadline time.Time) (context.Context, context.CancelFunc) {
	if deadline.IsZero() {
		return context.WithTimeout(ctx, s.opt.Timeout)
	}
	return context.WithDeadline(ctx, deadline)
}

// Reset forgets a subject's hits.
func (s *Store) Reset(ctx context.Context, sub store.Subject) error {
	ctx, cancel := s.bound(ctx, time.Time{})
	defer cancel()
	if err := s.client.Del(ctx, logKeys(sub)...).Err(); err != nil {
		return unavailable("resetting a subject", err)
	}
	if err := s.client.Publish(ctx, changeChannel, encodeChange(sub)).Err(); err != nil {
		return unavailable("telling others of a reset", err)
	}
	s.changes.tell(store.Change{Subject: sub})
	return nil
}

// logKeys are all logs that a subject may have.
func logKeys(sub store.Subject) []string {
	return []string{logKey(sub, store.Requests), logKey(sub, store.Tokens), logKey(sub, store.USD)}
}

// SetOverride stores a subject's override, or removes it when value is empty.
func (s *Store) SetOverride(ctx context.Context, sub store.Subject, value string) (int64, error) {
	ctx, cancel := s.bound(ctx, time.Time{})
	defer cancel()
	keys := append([]string{overrideKey(sub)}, logKeys(sub)...)
	version, err := s.run(ctx, s.scripts.override, keys, []any{value, changeChannel, encodeChange(sub)}).Int64()
	if err != nil {
		return 0, unavailable("setting an override", err)
	}
	s.changes.tell(store.Change{Subject: sub})
	return version, nil
}

func overrideKey(sub store.Subject) string { return subjectKey(sub) + "o" }

// Override returns a subject's override.
func (s *Store) Override(ctx context.Context, sub store.Subject) (int64, string, error) {
	ctx, cancel := s.bound(ctx, time.Time{})
	defer cancel()
	raw, err := s.client.Get(ctx, overrideKey(sub)).Result()
	switch {
	case errors.Is(err, redis.Nil):
		return 0, "", nil
	case err != nil:
		return 0, "", unavailable("reading an override", err)
	case len(raw) < versionSize:
		return 0, "", fmt.Errorf("%w: the override of %s is too short", store.ErrCorrupt, overrideKey(sub))
	}
	var wide [8]byte
	copy(wide[8-versionSize:], raw)
	return int64(binary.BigEndian.Uint64(wide[:])), raw[versionSize:], nil
}

// versionSize is the width of the version before an override's value.
const versionSize = 7

// OnChange registers the receiver of changes and begins to listen for those made elsewhere.
func (s *Store) OnChange(fn func(store.Change)) { s.changes.listen(fn) }

// Ping asks whether Redis answers.
func (s *Store) Ping(ctx context.Context) error {
	ctx, cancel := s.bound(ctx, time.Time{})
	defer cancel()
	if err := s.client.Ping(ctx).Err(); err != nil {
		return unavailable("pinging", err)
	}
	return nil
}

// Close ends all calls and connections.
func (s *Store) Close() error {
	s.changes.close()
	s.batch.close()
	s.reserve.close()
	s.settles.close()
	if err := s.client.Close(); err != nil {
		return fmt.Errorf("closing the Redis client: %w", err)
	}
	return nil
}
