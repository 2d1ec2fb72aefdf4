package app

import (
	"os"
	"runtime/debug"
)

// How the process collects garbage unless its environment says otherwise.
const (
	// gcPercent lets the heap grow to five times what lives before the next collection.
	gcPercent = 400
	// heapBeside is what the heap may take beside the store, bytes, before it is collected more often than that.
	heapBeside = 256 << 20
	// heapOfStore is how many bytes of heap a byte of the embedded store may come to: maps and slices that grow live
	// beside what they were until the next collection.
	heapOfStore = 2
)

// TuneRuntime sets how often this process collects garbage. What lives is small, a few MiB and the embedded store, while
// each call leaves some KiB behind: at Go's default of 100 percent a busy daemon spends a tenth of its CPU time on
// finding the same few objects alive. A higher percentage alone would let a full store's heap grow to five times its
// size; so the heap is also given a bound from memoryLimit, the embedded store's in bytes, near which it is collected
// as often as it takes. The bound is soft: passing it costs time, not answers.
//
// GOGC and GOMEMLIMIT, if they are set, stand. It is for the process as a whole, and may be called again.
func TuneRuntime(memoryLimit int64) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(heapOfStore*memoryLimit + heapBeside)
	}
}
