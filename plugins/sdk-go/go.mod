module github.com/busway/busway/go

go 1.25
