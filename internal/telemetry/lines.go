package telemetry

import (
	"bytes"
	"context"
	"io"
	"sync"
)

// maxWaiting is how much may wait to be written, bytes: more is dropped. As much again may be on its way.
const maxWaiting = 4 << 20

// lines writes whole lines in the background, so that nobody waits for who reads them. What comes faster than it can be written is
// lost. It is safe for concurrent use.
type lines struct {
	out  io.Writer
	lost func(lines int, err error) // err is nil for want of room. It must not add lines

	wake chan struct{} // holds one if something was added since the writer looked
	stop chan struct{}
	done chan struct{} // closed when the last line is written

	mu      sync.Mutex // guards what follows
	waiting []byte     // whole lines
	spare   []byte     // room for the next ones; nil while the writer has it
	closed  bool
}

func newLines(out io.Writer, lost func(lines int, err error)) *lines {
	l := &lines{
		out: out, lost: lost,
		wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
	}
	go l.run()
	return l
}

// add keeps a line until it is written, or tells that it is lost.
func (l *lines) add(line []byte) {
	l.mu.Lock()
	room := !l.closed && len(l.waiting)+len(line) <= maxWaiting
	if room {
		l.waiting = append(l.waiting, line...)
	}
	l.mu.Unlock()
	if !room {
		l.lost(1, nil)
		return
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// run writes what waits until the end, and then what is left.
func (l *lines) run() {
	defer close(l.done)
	for {
		select {
		case <-l.wake:
			l.writeOut()
		case <-l.stop:
			l.writeOut()
			return
		}
	}
}

// writeOut writes what waits now.
func (l *lines) writeOut() {
	l.mu.Lock()
	all := l.waiting
	l.waiting, l.spare = l.spare, nil
	l.mu.Unlock()
	if len(all) > 0 {
		if n, err := l.out.Write(all); err != nil {
			l.lost(bytes.Count(all[n:], []byte{'\n'}), err)
		}
	}
	l.mu.Lock()
	l.spare = all[:0]
	l.mu.Unlock()
}

// close takes no more, and waits until what was taken is written. It errs if ctx ends first.
func (l *lines) close(ctx context.Context) error {
	l.mu.Lock()
	closed := l.closed
	l.closed = true
	l.mu.Unlock()
	if !closed {
		close(l.stop)
	}
	select {
	case <-l.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
