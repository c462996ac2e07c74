// Counts task events, and publishes each with its number.
package main

import (
	"encoding/json"
	"fmt"

	busway "github.com/busway/busway/go"
)

func init() {
	busway.Handle(busway.Description{
		Name:          "go-counter",
		Version:       "0.1.0",
		Summary:       "Counts task events",
		Subscriptions: []busway.Subscription{{EventTypes: []string{"task.*"}}},
		Emits:         []string{"counter.counted"},
		Capabilities:  []string{"publish", "kv"},
	}, handle)
}

func handle(event busway.Event, attempt uint32) error {
	switch event.Type {
	case "task.boom":
		return busway.Retry("boom")
	case "task.never":
		return busway.Reject("never")
	case "task.trap":
		panic("trap")
	}
	busway.Infof("handling %s attempt %d", event.Metadata.EventID, attempt)
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

func main() {} // the hub calls handle
