package telemetry

import (
	"context"
	"errors"
	"time"

	"github.com/valetkey/valetkey/storage"
)

// Operation is an operation of the database. Its zero value does nothing.
type Operation struct {
	telemetry    *Telemetry
	span         *Span
	system, name string
	began        time.Time
}

// StartOperation begins an operation of a database. name is a constant.
func (t *Telemetry) StartOperation(ctx context.Context, system, name string) Operation {
	if t == nil {
		return Operation{}
	}
	return Operation{telemetry: t, span: SpanOf(ctx).child(kindClient), system: system, name: name, began: time.Now()}
}

// End ends the operation. batch is how many operations were sent together, and zero if it was alone.
// Errors that are results, such as storage.ErrNotFound, are not failures.
func (o Operation) End(batch int, err error) {
	if o.telemetry == nil {
		return
	}
	failure := ""
	if err != nil && (errors.Is(err, storage.ErrUnavailable) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		failure = errorTypeOf(err)
	}
	o.telemetry.operations.observe(time.Since(o.began).Seconds(), values{o.system, o.name, failure})
	if o.span == nil {
		return
	}
	o.span.text("db.system.name", o.system)
	o.span.text("db.operation.name", o.name)
	o.span.text("error.type", failure)
	if batch > 1 { // the semantic conventions omit it for a single operation
		o.span.number("db.operation.batch.size", batch)
	}
	o.span.end(o.name, failure != "" && failure != errorCanceled)
}
