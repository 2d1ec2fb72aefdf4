package redis

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

// changeChannel is where scripts say whose usage or limits have changed otherwise than by a hit.
const changeChannel = "rl:changes"

// hearing is how long the channel may be silent before it is asked whether it is still there.
const hearing = 2 * time.Second

// encodeChange names a subject on the channel: kind, NUL, id. A kind holds no NUL.
func encodeChange(s store.Subject) string { return s.Kind + "\x00" + s.ID }

func decodeChange(payload string) (store.Subject, bool) {
	kind, id, ok := strings.Cut(payload, "\x00")
	return store.Subject{Kind: kind, ID: id}, ok
}

// changes hears the channel for its one receiver, and says when it cannot.
type changes struct {
	client redis.UniversalClient
	fn     atomic.Pointer[func(store.Change)]
	start  sync.Once
	ctx    context.Context //nolint:containedctx // ends the listener at Close
	cancel context.CancelFunc
	wait   sync.WaitGroup
}

func newChanges(client redis.UniversalClient) *changes {
	ctx, cancel := context.WithCancel(context.Background())
	return &changes{client: client, ctx: ctx, cancel: cancel}
}

func (c *changes) listen(fn func(store.Change)) {
	c.fn.Store(&fn)
	c.tell(store.Change{Lost: true})
	c.start.Do(func() { c.wait.Go(c.run) })
}

func (c *changes) tell(change store.Change) {
	if fn := c.fn.Load(); fn != nil {
		(*fn)(change)
	}
}

func (c *changes) close() {
	c.cancel()
	c.wait.Wait()
}

func (c *changes) run() {
	const first, longest = 50 * time.Millisecond, 2 * time.Second
	pause := first
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-timer.C:
		}
		if c.hear() {
			pause = first
		}
		c.tell(store.Change{Lost: true})
		timer.Reset(pause)
		pause = min(2*pause, longest)
	}
}

// hear subscribes and passes on what it hears until the connection is lost. It reports whether it ever heard anything.
func (c *changes) hear() bool {
	sub := c.client.Subscribe(c.ctx, changeChannel)
	defer func() { _ = sub.Close() }() // a connection that is already lost
	stop := context.AfterFunc(c.ctx, func() { _ = sub.Close() })
	defer stop()
	heard, asked := false, false
	for {
		msg, err := sub.ReceiveTimeout(c.ctx, hearing)
		if err != nil {
			if !isTimeout(err) || asked || c.ctx.Err() != nil {
				return heard
			}
			asked = true
			if sub.Ping(c.ctx) != nil {
				return heard
			}
			continue
		}
		asked = false
		switch m := msg.(type) {
		case *redis.Subscription:
			if m.Kind == "subscribe" {
				heard = true
				c.tell(store.Change{Restored: true})
			}
		case *redis.Message:
			if subject, ok := decodeChange(m.Payload); ok {
				c.tell(store.Change{Subject: subject})
			}
		}
	}
}

func isTimeout(err error) bool {
	t, ok := err.(interface{ Timeout() bool })
	return ok && t.Timeout()
}
