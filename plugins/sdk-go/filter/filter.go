package busway

import (
	"encoding/json"

	"github.com/busway/busway/go/busway_plugin_filter"
	"github.com/busway/busway/go/busway_plugin_types"
	"github.com/busway/busway/go/exported"
	wit "github.com/busway/busway/go/wit/types"
)

// Description is what a filter is.
type Description struct {
	Name, Version, Summary string
	// JSON Schema of the parameters; empty: it takes none.
	ParamsSchema string
	Hints        []Hint
}

// Matches names the function that answers for each event; call it in init. Parameters that were not given are {}. An error says why there
// is no answer; where it is the fault of the parameters, begin it with "params: ".
func Matches(about Description, matches func(event Event, params json.RawMessage) (bool, error)) {
	exported.Describe = func() busway_plugin_filter.Description {
		from := busway_plugin_filter.Description{Name: about.Name, Version: about.Version, Summary: about.Summary, Hints: hints(about.Hints)}
		if about.ParamsSchema != "" {
			from.ParamsSchema = wit.Some(about.ParamsSchema)
		}
		return from
	}
	exported.Matches = func(event busway_plugin_types.Event, params wit.Option[string]) wit.Result[bool, string] {
		defer collect()
		answer, err := matches(eventOf(event), json.RawMessage(params.SomeOr("{}")))
		if err != nil {
			return wit.Err[bool](err.Error())
		}
		return wit.Ok[bool, string](answer)
	}
}
