// Package export_busway_plugin_filter is what the generated exports call.
package export_busway_plugin_filter

import (
	"github.com/busway/busway/go/busway_plugin_filter"
	"github.com/busway/busway/go/busway_plugin_types"
	"github.com/busway/busway/go/exported"
	wit "github.com/busway/busway/go/wit/types"
)

func Describe() busway_plugin_filter.Description {
	if exported.Describe == nil {
		panic("the plugin has not called busway.Matches in init")
	}
	return exported.Describe()
}

func Matches(event busway_plugin_types.Event, params wit.Option[string]) wit.Result[bool, string] {
	return exported.Matches(event, params)
}
