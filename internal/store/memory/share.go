package memory

import "github.com/ratelimitd/ratelimitd/internal/store"

// share is what a hold has of one subject. The lock of that subject's shard guards it, but for hold, sub and shard, which never change.
type share struct {
	hold  *hold
	sub   *subject
	shard int
	epoch uint32  // of the subject when its amounts were taken
	slot  bool    // takes a slot
	open  bool    // stands in a list of its subject
	books [2]bool // the subject had windows for it
	at    amounts // the moment in the subject's log
	has   amounts // that are counted there
}

// counts tells whether the amounts of a share stand in the log of its subject, as far as that keeps them.
func (sh *share) counts() bool { return sh.epoch == sh.sub.holding.epoch }

// change brings what a share counts of a unit to an amount, in the windows of the admission. keep is how long a log is
// followed, microseconds, in which the share has counted nothing so far; 0 for not at all.
func (sh *share) change(u store.Unit, to, keep, now int64) {
	i := indexOf(u)
	before := sh.has[i]
	delta := to - before
	if !sh.books[i] || delta == 0 {
		return
	}
	sh.has[i] = to
	if !sh.counts() {
		return
	}
	if sh.open {
		sh.sub.holding.held[i] += delta
	}
	if before > 0 {
		if log := sh.sub.log(u); log != nil {
			log.AddAt(sh.at[i], delta)
		}
		return
	}
	sh.sub.book(u, sh.at[i], to, keep, now)
}

// book puts an amount into a subject's log at a moment.
func (sub *subject) book(u store.Unit, at, amount, keep, now int64) {
	log := sub.log(u)
	if amount <= 0 || keep <= 0 || (log == nil && now-at >= keep) {
		return
	}
	if log == nil {
		log = newLog(u)
		sub.logs[u-store.Requests] = log
	}
	log.Begin(now)
	log.Insert(at, amount, keep)
}
