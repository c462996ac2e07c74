// Package busway is for writing Busway plugins in Go. A plugin is a package main that names its functions in init: see Handle or Matches.
package busway

import (
	"encoding/json"
	"fmt"

	"github.com/busway/busway/go/busway_plugin_logging"
	"github.com/busway/busway/go/busway_plugin_types"
	wit "github.com/busway/busway/go/wit/types"
	_ "github.com/busway/busway/go/wit_exports"
)

// Event is one event as it stands in the log.
type Event struct {
	// Position in the log: 1, 2, 3 … 0 for an event that is not in one.
	Seq  uint64
	Type string
	// As it was published. See Read.
	Data     json.RawMessage
	Metadata Metadata
}

// Metadata is what the hub knows of an event besides its data. A pointer is nil where there is none.
type Metadata struct {
	EventID string
	// Microseconds since 1970.
	Timestamp                          uint64
	CorrelationID, CausationID, Source *string
	Tags                               []string
	Hops                               uint32
	Extensions                         []Extension
}

// Extension is any other named value that came with an event.
type Extension struct {
	Name  string
	Value json.RawMessage
}

// Read reads the data into a value of yours. JSON's null leaves a value as it is: take a pointer where that has to be told apart.
func (event Event) Read(into any) error {
	return json.Unmarshal(event.Data, into)
}

// Hint is a wish by name; the value is JSON.
type Hint struct{ Name, Value string }

// A Go instance starts slowly: unless the plugin says otherwise, it is kept.
func hints(own []Hint) []wit.Tuple2[string, string] {
	all := []wit.Tuple2[string, string]{}
	kept := true
	for _, hint := range own {
		kept = kept && hint.Name != "isolation"
		all = append(all, wit.Tuple2[string, string]{F0: hint.Name, F1: hint.Value})
	}
	if kept {
		all = append(all, wit.Tuple2[string, string]{F0: "isolation", F1: `"reuse"`})
	}
	return all
}

func eventOf(event busway_plugin_types.Event) Event {
	from := event.Metadata
	extensions := make([]Extension, len(from.Extensions))
	for i, pair := range from.Extensions {
		extensions[i] = Extension{pair.F0, json.RawMessage(pair.F1)}
	}
	return Event{event.Seq, event.Type, json.RawMessage(event.Data), Metadata{
		EventID:       from.EventId,
		Timestamp:     from.Timestamp,
		CorrelationID: pointer(from.CorrelationId),
		CausationID:   pointer(from.CausationId),
		Source:        pointer(from.Source),
		Tags:          from.Tags,
		Hops:          from.Hops,
		Extensions:    extensions,
	}}
}

func pointer(option wit.Option[string]) *string {
	if option.IsNone() {
		return nil
	}
	text := option.Some()
	return &text
}

// Tracef writes one line about every step; normally off.
func Tracef(format string, arguments ...any) {
	busway_plugin_logging.Log(busway_plugin_logging.LevelTrace, fmt.Sprintf(format, arguments...))
}

// Debugf writes one line for whoever looks for a fault.
func Debugf(format string, arguments ...any) {
	busway_plugin_logging.Log(busway_plugin_logging.LevelDebug, fmt.Sprintf(format, arguments...))
}

// Infof writes one line for the operator.
func Infof(format string, arguments ...any) {
	busway_plugin_logging.Log(busway_plugin_logging.LevelInfo, fmt.Sprintf(format, arguments...))
}

// Warnf writes one line about the unexpected.
func Warnf(format string, arguments ...any) {
	busway_plugin_logging.Log(busway_plugin_logging.LevelWarn, fmt.Sprintf(format, arguments...))
}

// Errorf writes one line about what was lost or must be mended.
func Errorf(format string, arguments ...any) {
	busway_plugin_logging.Log(busway_plugin_logging.LevelError, fmt.Sprintf(format, arguments...))
}
