// Package export_busway_plugin_handler is what the generated exports call.
package export_busway_plugin_handler

import (
	"github.com/busway/busway/go/busway_plugin_handler"
	"github.com/busway/busway/go/busway_plugin_types"
	"github.com/busway/busway/go/exported"
	wit "github.com/busway/busway/go/wit/types"
)

func Describe() busway_plugin_handler.Description {
	if exported.Describe == nil {
		panic("the plugin has not called busway.Handle in init")
	}
	return exported.Describe()
}

func Handle(event busway_plugin_types.Event, delivery busway_plugin_handler.Delivery) wit.Result[wit.Unit, busway_plugin_types.Failure] {
	return exported.Handle(event, delivery)
}
