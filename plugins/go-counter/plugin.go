// Counts task events, and publishes each with its number.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	busway "github.com/busway/busway/go"
)

func init() {
	busway.Handle(busway.Description{
		Name:          "go-counter",
		Version:       "0.1.0",
		Summary:       "Counts task events",
		Subscriptions: []busway.Subscription{{EventTypes: []string{"task.*"}}},
		Emits:         []string{"counter.counted"},
		Capabilities:  []string{"publish", "kv", "config"},
	}, handle)
}

var calls int // of this instance

func handle(event busway.Event, attempt uint32) error {
	calls++
	switch event.Type {
	case "task.boom":
		return busway.Retry("boom")
	case "task.later":
		return busway.RetryAfter(1500*time.Millisecond, "later")
	case "task.never":
		return busway.Reject("never")
	case "task.trap":
		panic("trap")
	case "task.bug":
		return errors.New("a bug")
	case "task.probe":
		return probe(event, attempt)
	}
	busway.Infof("handling %s %s, attempt %d, call %d", event.Type, event.Metadata.EventID, attempt, calls)
	count, err := busway.Increment("count", 1)
	if err != nil {
		return err
	}
	// The data is JSON already: it is put in as it is, so that its numbers keep their digits.
	data := fmt.Sprintf(`{"from":%d,"count":%d,"data":%s}`, event.Seq, count, event.Data)
	_, err = busway.Publish(busway.NewEvent{
		Type:       "counter.counted",
		Data:       json.RawMessage(data),
		Tags:       append([]string{"derived"}, event.Metadata.Tags...),
		Extensions: event.Metadata.Extensions,
	})
	return err
}

// What a probe saw.
type seen struct {
	Type          string          `json:"type"`
	Seq           uint64          `json:"seq"`
	Timestamp     uint64          `json:"timestamp"`
	CorrelationID *string         `json:"correlation_id"`
	CausationID   *string         `json:"causation_id"`
	Source        *string         `json:"source"`
	Hops          uint32          `json:"hops"`
	Attempt       uint32          `json:"attempt"`
	Config        *string         `json:"config"`
	Published     string          `json:"published"`
	Invalid       bool            `json:"invalid"`
	Kept          json.RawMessage `json:"kept"`
	Empty         *string         `json:"empty"`
	Gone          *string         `json:"gone"`
	Keys          []string        `json:"keys"`
}

// Uses all that the hub offers, and publishes what it saw.
func probe(event busway.Event, attempt uint32) error {
	busway.Tracef("probing %s", event.Type)
	busway.Errorf("probed %s", event.Type)
	from := event.Metadata
	saw := seen{Type: event.Type, Seq: event.Seq, Timestamp: from.Timestamp, CorrelationID: from.CorrelationID,
		CausationID: from.CausationID, Source: from.Source, Hops: from.Hops, Attempt: attempt}
	if greeting, ok := busway.Config("greeting"); ok {
		saw.Config = &greeting
	}

	own := "its own"
	var err error
	if saw.Published, err = busway.Publish(busway.NewEvent{Type: "counter.counted", CorrelationID: &own}); err != nil {
		return err
	}
	_, err = busway.Publish(busway.NewEvent{Type: "counter.counted", Data: json.RawMessage("no JSON")})
	var refused *busway.PublishError
	saw.Invalid = errors.As(err, &refused) && refused.Code == busway.Invalid

	if err := remember(event.Data, &saw); err != nil {
		return err
	}
	_, err = busway.Publish(busway.NewEvent{Type: "counter.counted", Data: saw})
	return err
}

func remember(data json.RawMessage, saw *seen) error {
	old, err := busway.Keys("probe/", "")
	for _, key := range old {
		err = errors.Join(err, busway.Delete(key))
	}
	err = errors.Join(err, busway.Set("probe/1", nil), busway.Set("probe/ü", data))
	if err != nil {
		return err
	}
	var errs [4]error
	saw.Kept, errs[0] = busway.Get("probe/ü")
	saw.Empty, errs[1] = text("probe/1")
	saw.Gone, errs[2] = text("probe/old")
	saw.Keys, errs[3] = busway.Keys("probe/", "probe/1")
	return errors.Join(errs[:]...)
}

// Nil: there is nothing at the key.
func text(key string) (*string, error) {
	value, err := busway.Get(key)
	if value == nil || err != nil {
		return nil, err
	}
	text := string(value)
	return &text, nil
}

func main() {} // the hub calls handle
