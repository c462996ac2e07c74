// Package runtime gives out the memory in which the host puts what it passes in, and the bindings what they pass out.
package runtime

import (
	"runtime"
	"unsafe"
)

// What was handed to the host or filled by it stays where it is until the call is over.
var held runtime.Pinner

// Go's own allocator works from here on.
var started bool

func init() { started = true }

// What is asked for before that, by the WASI adapter for itself, comes from here and stays.
var (
	early [512 << 10]byte
	used  uintptr
)

// Allocate makes room for size bytes, which does not move while pinner holds it.
func Allocate(pinner *runtime.Pinner, size, align uintptr) unsafe.Pointer {
	if size == 0 {
		return nil
	}
	// Words are aligned for everything that the canonical ABI knows.
	words := make([]uint64, (size+7)/8)
	pointer := unsafe.Pointer(&words[0])
	pinner.Pin(pointer)
	return pointer
}

// Unpin lets go of what a call held.
func Unpin() { held.Unpin() }

// Go's collector reads the clock, and nobody may be called while the host asks for memory: the adapter answers with the last time instead.
//
//go:wasmimport wasi_snapshot_preview1 adapter_monotonic_clock_set_paused
func pauseClock(paused bool)

//go:wasmexport cabi_realloc
func cabiRealloc(old unsafe.Pointer, oldSize, align, size uintptr) unsafe.Pointer {
	if old != nil || oldSize != 0 {
		panic("expected to be asked for new memory only")
	}
	if started {
		pauseClock(true)
		pointer := Allocate(&held, size, align)
		pauseClock(false)
		return pointer
	}
	base := uintptr(unsafe.Pointer(&early[0]))
	begin := (base+used+align-1)&^(align-1) - base
	if begin+size > uintptr(len(early)) {
		panic("expected less to be asked for before Go has started")
	}
	used = begin + size
	return unsafe.Pointer(&early[begin])
}
