// Package wit_types has the types of WIT that Go has none for, under the names by which the generated bindings know them.
package wit_types

// Tags as the canonical ABI numbers the cases of options and results.
const (
	OptionNone uint8 = iota
	OptionSome
)

const (
	ResultOk uint8 = iota
	ResultErr
)

// Unit is a value that says nothing, as in result<_, failure>.
type Unit struct{}

// Tuple2 is a pair.
type Tuple2[A, B any] struct {
	F0 A
	F1 B
}

// Option is a value that may be missing. The zero Option is none.
type Option[T any] struct{ value *T }

// None is no value.
func None[T any]() Option[T] { return Option[T]{} }

// Some is a value that is there.
func Some[T any](value T) Option[T] { return Option[T]{&value} }

// IsSome says whether there is a value.
func (o Option[T]) IsSome() bool { return o.value != nil }

// IsNone says whether there is none.
func (o Option[T]) IsNone() bool { return o.value == nil }

// Tag is OptionNone or OptionSome.
func (o Option[T]) Tag() uint8 {
	if o.value == nil {
		return OptionNone
	}
	return OptionSome
}

// Some is the value; it panics if there is none.
func (o Option[T]) Some() T {
	if o.value == nil {
		panic("expected some value, found none")
	}
	return *o.value
}

// SomeOr is the value, or other if there is none.
func (o Option[T]) SomeOr(other T) T {
	if o.value == nil {
		return other
	}
	return *o.value
}

// Result is what came of something: a value or a failure.
type Result[T, E any] struct {
	failed bool
	ok     T
	err    E
}

// Ok is a good result.
func Ok[T, E any](value T) Result[T, E] { return Result[T, E]{ok: value} }

// Err is a failure.
func Err[T, E any](failure E) Result[T, E] { return Result[T, E]{failed: true, err: failure} }

// IsOk says whether it went well.
func (r Result[T, E]) IsOk() bool { return !r.failed }

// IsErr says whether it failed.
func (r Result[T, E]) IsErr() bool { return r.failed }

// Tag is ResultOk or ResultErr.
func (r Result[T, E]) Tag() uint8 {
	if r.failed {
		return ResultErr
	}
	return ResultOk
}

// Ok is the value; it panics if it failed.
func (r Result[T, E]) Ok() T {
	if r.failed {
		panic("expected a value, found a failure")
	}
	return r.ok
}

// Err is the failure; it panics if it went well.
func (r Result[T, E]) Err() E {
	if !r.failed {
		panic("expected a failure, found a value")
	}
	return r.err
}
