module go-tagged

go 1.25

require github.com/busway/busway/go v0.1.0

// Written by `busway plugin build`.
replace github.com/busway/busway/go => ./.busway/sdk
