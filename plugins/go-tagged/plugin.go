// Lets through the events that have a tag: urgent, or the one in its parameters.
package main

import (
	"encoding/json"
	"fmt"
	"slices"

	busway "github.com/busway/busway/go"
)

func init() {
	busway.Matches(busway.Description{
		Name:         "go-tagged",
		Version:      "0.1.0",
		Summary:      "True for events that have a tag",
		ParamsSchema: `{"type":"object","properties":{"tag":{"default":"urgent"}}}`,
	}, matches)
}

var calls int // of this instance

func matches(event busway.Event, given json.RawMessage) (bool, error) {
	calls++
	busway.Debugf("asking about %s, call %d", event.Type, calls)
	tag := "urgent"
	params := struct{ Tag *string }{&tag} // a pointer: null would leave a string as it is
	if err := json.Unmarshal(given, &params); err != nil || params.Tag == nil {
		return false, fmt.Errorf(`params: expected {"tag": string}, found %s`, given)
	}
	return slices.Contains(event.Metadata.Tags, tag), nil
}

func main() {} // the hub calls matches
