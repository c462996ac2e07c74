package busway

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// The host asks for memory before a call, for what it passes in, and a plugin may call nobody meanwhile. Go's collector does (the clock, the
// scheduler), which is a trap: so it rests, and is run between calls, unless the memory of a plugin (64 MiB) becomes scarce within one.
func init() {
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(40 << 20)
}

var heap = []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}

// After a call: collects when it is worth it.
func collect() {
	metrics.Read(heap)
	if heap[0].Value.Uint64() > 8<<20 {
		runtime.GC()
	}
}
