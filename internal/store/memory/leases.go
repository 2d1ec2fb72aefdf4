package memory

import "slices"

// leases are the shares of open holds in the order in which their leases end.
type leases []*share

// search is where a share of a lease that ends at a moment stands, or would stand.
func (l *leases) search(expires int64) int {
	i, _ := slices.BinarySearchFunc(*l, expires, func(sh *share, t int64) int {
		if sh.hold.expires < t {
			return -1
		}
		return 1
	})
	return i
}

// add adds a share behind those whose leases end no later.
func (l *leases) add(sh *share) {
	*l = slices.Insert(*l, l.search(sh.hold.expires+1), sh)
	sh.open = true
}

// remove removes a share that is there.
func (l *leases) remove(sh *share) {
	for i := l.search(sh.hold.expires); i < len(*l); i++ {
		if (*l)[i] == sh {
			*l = slices.Delete(*l, i, i+1)
			sh.open = false
			return
		}
	}
}

// leasesOf is the list that a share belongs in.
func (hg *holding) leasesOf(sh *share) *leases {
	if sh.slot {
		return &hg.slots
	}
	return &hg.plain
}
