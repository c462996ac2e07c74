// Functions that the host provides have no body in Go; without a file of assembly the compiler refuses that.
