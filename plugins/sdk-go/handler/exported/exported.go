// Package exported holds the plugin's functions between init and the first call.
package exported

import (
	"github.com/busway/busway/go/busway_plugin_handler"
	"github.com/busway/busway/go/busway_plugin_types"
	wit "github.com/busway/busway/go/wit/types"
)

var (
	Describe func() busway_plugin_handler.Description
	Handle   func(busway_plugin_types.Event, busway_plugin_handler.Delivery) wit.Result[wit.Unit, busway_plugin_types.Failure]
)
