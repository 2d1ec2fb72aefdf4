package telemetry

import (
	"errors"

	"github.com/go-logr/logr/funcr"
	"go.opentelemetry.io/otel"
)

// HearOpenTelemetry has what OpenTelemetry's libraries tell the process as a whole written to a log: variables that they cannot
// read, say. Without it that is written to standard error, in no format of ours. It is for a process with one daemon.
func HearOpenTelemetry(log *Log) {
	otel.SetErrorHandler(otel.ErrorHandlerFunc(log.TraceTrouble))
	otel.SetLogger(funcr.New(func(_, text string) { log.TraceTrouble(errors.New(text)) }, funcr.Options{
		RenderArgsHook: func([]any) []any { return nil }, // a header that cannot be read may be a password
	}))
}
