package redis

import "github.com/ratelimitd/ratelimitd/internal/store"

// call is one script call being put together. Its slices are reused.
type call struct {
	clock func() int64
	keys  []string
	args  []any
	buf   []byte
	specs []specID
}

// specID tells one spec from another: limits are shared and immutable, so their place in memory names them.
type specID struct {
	first *store.Limit
	count int
	unit  store.Unit
}

func newCall(clock func() int64) *call { return &call{clock: clock} }

// buildBodies lays out the keys and arguments of a script of holds: each request is an argument of its own.
func buildBodies(c *call, jobs []*job) {
	c.keys, c.args = c.keys[:0], c.args[:0]
	for _, j := range jobs {
		c.keys = append(c.keys, j.keys...)
		c.args = append(c.args, j.body)
	}
	if c.clock != nil {
		c.args = append(c.args, c.clock())
	}
}

// buildChecks lays out the keys and arguments of admit.lua.
func buildChecks(c *call, jobs []*job) {
	c.keys, c.args, c.buf, c.specs = c.keys[:0], c.args[:0], c.buf[:0], c.specs[:0]
	for _, j := range jobs {
		for i := range j.checks {
			c.spec(&j.checks[i])
		}
	}
	specs := len(c.buf)
	for _, j := range jobs {
		c.buf = append(c.buf, j.flags, byte(len(j.checks)))
		for i := range j.checks {
			check := &j.checks[i]
			c.buf = appendCheck(c.buf, c.key(j.keys[i], check.Subject.ID == ""), c.spec(check), check.Amount, check.Override)
		}
	}
	c.args = append(c.args, c.buf[:specs:specs], c.buf[specs:])
	if c.clock != nil {
		c.args = append(c.args, c.clock())
	}
}

// spec returns the number of a check's windows, and writes them when they are new.
func (c *call) spec(check *store.Check) int {
	id := specID{first: &check.Limits[0], count: len(check.Limits), unit: check.Unit}
	for i, known := range c.specs {
		if known == id {
			return i + 1
		}
	}
	c.specs = append(c.specs, id)
	c.buf = appendSpec(c.buf, check.Unit, check.Limits)
	return len(c.specs)
}

// key returns the number of a key. One that many decisions share is sent once; the script finds the others by name.
func (c *call) key(key string, shared bool) int {
	if shared {
		for i, known := range c.keys {
			if known == key {
				return i + 1
			}
		}
	}
	c.keys = append(c.keys, key)
	return len(c.keys)
}
