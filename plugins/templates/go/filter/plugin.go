// Lets through orders from a given total on.
package main

import (
	"encoding/json"
	"fmt"

	busway "github.com/busway/busway/go"
)

func init() {
	busway.Matches(busway.Description{
		Name:         "my-plugin",
		Version:      "0.1.0",
		Summary:      "True for orders of at least `min`",
		ParamsSchema: `{"type":"object","properties":{"min":{"type":"number","default":100}}}`,
	}, matches)
}

// The data of an order.placed.
type order struct {
	Total *float64 `json:"total"` // a pointer, so that one that is missing is told from 0
}

// What the one who asks may give.
type params struct {
	Min *float64 `json:"min"`
}

func matches(event busway.Event, given json.RawMessage) (bool, error) {
	hundred := 100.0
	params := params{&hundred}
	if err := json.Unmarshal(given, &params); err != nil || params.Min == nil {
		return false, fmt.Errorf(`params: expected {"min": number}, found %s`, given)
	}
	var order order
	return event.Read(&order) == nil && order.Total != nil && *order.Total >= *params.Min, nil
}

func main() {} // the hub calls matches
