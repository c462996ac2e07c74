// Package exported holds the plugin's functions between init and the first call.
package exported

import (
	"github.com/busway/busway/go/busway_plugin_filter"
	"github.com/busway/busway/go/busway_plugin_types"
	wit "github.com/busway/busway/go/wit/types"
)

var (
	Describe func() busway_plugin_filter.Description
	Matches  func(busway_plugin_types.Event, wit.Option[string]) wit.Result[bool, string]
)
