package busway

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/busway/busway/go/busway_plugin_config"
	"github.com/busway/busway/go/busway_plugin_handler"
	"github.com/busway/busway/go/busway_plugin_kv"
	"github.com/busway/busway/go/busway_plugin_publisher"
	"github.com/busway/busway/go/busway_plugin_types"
	"github.com/busway/busway/go/exported"
	wit "github.com/busway/busway/go/wit/types"
)

// Description is what a handler is and wants.
type Description struct {
	Name, Version, Summary string
	// Any of these matches.
	Subscriptions []Subscription
	Emits         []string
	// "publish", "kv", "config".
	Capabilities []string
	Hints        []Hint
}

// Subscription is which events it wants; all that is given has to match.
type Subscription = busway_plugin_types.Subscription

// Handle names the function that is called for each event; call it in init. What the function published and wrote counts only if it
// returns nil. Retry and Reject say what is to become of the event, any other error is a retry.
func Handle(about Description, handle func(event Event, attempt uint32) error) {
	exported.Describe = func() busway_plugin_handler.Description {
		return busway_plugin_handler.Description{
			Name:          about.Name,
			Version:       about.Version,
			Summary:       about.Summary,
			Subscriptions: about.Subscriptions,
			Emits:         about.Emits,
			Capabilities:  about.Capabilities,
			Hints:         hints(about.Hints),
		}
	}
	exported.Handle = func(event busway_plugin_types.Event, delivery busway_plugin_handler.Delivery) wit.Result[wit.Unit, busway_plugin_types.Failure] {
		defer collect()
		err := handle(eventOf(event), delivery.Attempt)
		if err == nil {
			return wit.Ok[wit.Unit, busway_plugin_types.Failure](wit.Unit{})
		}
		return wit.Err[wit.Unit](failureOf(err))
	}
}

func failureOf(err error) busway_plugin_types.Failure {
	to := busway_plugin_types.Failure{Kind: busway_plugin_types.FailureKindRetry, Message: err.Error()}
	var from *failed
	var refused *PublishError
	switch {
	case errors.As(err, &from) && from.reject, errors.As(err, &refused):
		to.Kind = busway_plugin_types.FailureKindReject
	case from != nil && from.after > 0:
		to.RetryAfterMs = wit.Some(uint32(min(from.after.Milliseconds(), math.MaxUint32)))
	}
	return to
}

type failed struct {
	reject  bool
	message string
	after   time.Duration
}

func (f *failed) Error() string { return f.message }

// Retry is the error of what may work later.
func Retry(format string, arguments ...any) error {
	return &failed{message: fmt.Sprintf(format, arguments...)}
}

// RetryAfter is the same, but not before this pause.
func RetryAfter(pause time.Duration, format string, arguments ...any) error {
	return &failed{message: fmt.Sprintf(format, arguments...), after: pause}
}

// Reject is the error of what will never work.
func Reject(format string, arguments ...any) error {
	return &failed{reject: true, message: fmt.Sprintf(format, arguments...)}
}

// NewEvent is an event to publish.
type NewEvent struct {
	Type string
	// Anything that encoding/json writes; json.RawMessage as it is.
	Data any
	Tags []string
	// Nil: that of the event being handled.
	CorrelationID *string
	Extensions    []Extension
}

// PublishCode is which kind of refusal.
type PublishCode = busway_plugin_publisher.PublishCode

const (
	Denied  = busway_plugin_publisher.PublishCodeDenied
	Limit   = busway_plugin_publisher.PublishCodeLimit
	Invalid = busway_plugin_publisher.PublishCodeInvalid
)

// PublishError is why the hub did not take an event. Returned by the handler, it is a reject.
type PublishError struct {
	Code    PublishCode
	Message string
}

func (e *PublishError) Error() string { return e.Message }

// Publish publishes an event and returns the id that it will have. A refusal is a *PublishError.
func Publish(event NewEvent) (string, error) {
	data, err := json.Marshal(event.Data)
	if raw, ok := event.Data.(json.RawMessage); ok {
		data, err = raw, nil // Marshal would write it anew
	}
	if err != nil {
		return "", Reject("data: %v", err)
	}
	raw := busway_plugin_types.NewEvent{Type: event.Type, Data: string(data), Tags: event.Tags}
	if event.CorrelationID != nil {
		raw.CorrelationId = wit.Some(*event.CorrelationID)
	}
	for _, extension := range event.Extensions {
		raw.Extensions = append(raw.Extensions, wit.Tuple2[string, string]{F0: extension.Name, F1: string(extension.Value)})
	}
	result := busway_plugin_publisher.Publish(raw)
	if result.IsErr() {
		why := result.Err()
		return "", &PublishError{why.Code, why.Message}
	}
	return result.Ok(), nil
}

// Config is a setting from the operator, and whether there is one.
func Config(key string) (string, bool) {
	value := busway_plugin_config.Get(key)
	if value.IsNone() {
		return "", false
	}
	return value.Some(), true
}

// Get reads from the memory that outlives the call: nil if there is nothing. A refusal is a retry, here and below.
func Get(key string) ([]byte, error) {
	result := busway_plugin_kv.Get(key)
	if result.IsErr() {
		return nil, Retry("%s", result.Err())
	}
	if value := result.Ok(); value.IsSome() {
		return append([]byte{}, value.Some()...), nil // an empty value is not nil
	}
	return nil, nil
}

// Set puts a value at the key.
func Set(key string, value []byte) error {
	if result := busway_plugin_kv.Set(key, value); result.IsErr() {
		return Retry("%s", result.Err())
	}
	return nil
}

// Delete removes the key.
func Delete(key string) error {
	if result := busway_plugin_kv.Delete(key); result.IsErr() {
		return Retry("%s", result.Err())
	}
	return nil
}

// Keys lists the keys that begin with prefix, in the order of their bytes, after the key after (empty: from the first); at most 1,000.
func Keys(prefix, after string) ([]string, error) {
	from := wit.None[string]()
	if after != "" {
		from = wit.Some(after)
	}
	result := busway_plugin_kv.Keys(prefix, from)
	if result.IsErr() {
		return nil, Retry("%s", result.Err())
	}
	return result.Ok(), nil
}

// Increment adds to the number at the key and returns the sum.
func Increment(key string, delta int32) (int64, error) {
	result := busway_plugin_kv.Increment(key, delta)
	if result.IsErr() {
		return 0, Retry("%s", result.Err())
	}
	return result.Ok(), nil
}
