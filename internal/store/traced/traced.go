// Package traced shows what a store does in the traces of its callers. Calls of many callers share a trip to Redis, so that a
// trip belongs to no trace; what each caller waits for does.
package traced

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/ratelimitd/ratelimitd/internal/store"
	"github.com/ratelimitd/ratelimitd/internal/telemetry"
)

// The attributes of OpenTelemetry's conventions for databases.
const (
	attrSystem    = attribute.Key("db.system.name")
	attrOperation = attribute.Key("db.operation.name")
	attrError     = attribute.Key("error.type")
)

// canceled is the attrError of a caller that has gone.
const canceled = "canceled"

// Store is a store whose calls are spans, within those of their callers. A caller without a span that is recorded costs one look
// into its context.
type Store struct {
	store.Store

	tracer trace.Tracer
	system string
	kind   func(error) string
}

var _ store.Store = (*Store)(nil)

// New returns a store that shows what another does. The system is its name in spans: "redis", "memory". The kind of an error is
// what spans say of it: an error's text may hold a key, and so a user's id.
func New(s store.Store, tracer trace.Tracer, system string, kind func(error) string) *Store {
	return &Store{Store: s, tracer: tracer, system: system, kind: kind}
}

// Admit decides a request; see store.Store.
func (s *Store) Admit(ctx context.Context, req *store.Request, ans *store.Answer) error {
	operation := "admit"
	if req.Look {
		operation = "look"
	}
	ctx, span := s.begin(ctx, operation, len(req.Checks))
	return s.end(span, s.Store.Admit(ctx, req, ans))
}

// Settle ends a hold; see store.Store.
func (s *Store) Settle(ctx context.Context, st *store.Settlement, out *store.Settled) error {
	operation := "settle"
	if st.Release {
		operation = "release"
	}
	ctx, span := s.begin(ctx, operation, len(st.Parts))
	return s.end(span, s.Store.Settle(ctx, st, out))
}

// Refund gives hits back; see store.Store.
func (s *Store) Refund(ctx context.Context, req *store.Request, ans *store.Answer) (int64, error) {
	ctx, span := s.begin(ctx, "refund", len(req.Checks))
	n, err := s.Store.Refund(ctx, req, ans)
	return n, s.end(span, err)
}

// Reset forgets a subject's hits; see store.Store.
func (s *Store) Reset(ctx context.Context, subject store.Subject) error {
	ctx, span := s.begin(ctx, "reset", 1)
	return s.end(span, s.Store.Reset(ctx, subject))
}

// SetOverride stores a subject's own limits; see store.Store.
func (s *Store) SetOverride(ctx context.Context, subject store.Subject, value string) (int64, error) {
	ctx, span := s.begin(ctx, "set override", 1)
	version, err := s.Store.SetOverride(ctx, subject, value)
	return version, s.end(span, err)
}

// Override returns a subject's own limits; see store.Store.
func (s *Store) Override(ctx context.Context, subject store.Subject) (version int64, value string, err error) {
	ctx, span := s.begin(ctx, "override", 1)
	version, value, err = s.Store.Override(ctx, subject)
	return version, value, s.end(span, err)
}

// begin begins a span of so many checks; nil if the caller's is not recorded.
func (s *Store) begin(ctx context.Context, operation string, checks int) (context.Context, trace.Span) {
	if !trace.SpanFromContext(ctx).IsRecording() {
		return ctx, nil
	}
	//nolint:spancheck // end ends it
	return s.tracer.Start(ctx, operation+" "+s.system, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attrSystem.String(s.system), attrOperation.String(operation), telemetry.AttrChecks.Int(checks),
	))
}

// end ends a span, and returns the error. What the store refuses is an answer; that it cannot be asked is an error.
func (s *Store) end(span trace.Span, err error) error {
	if span == nil {
		return err
	}
	defer span.End()
	switch {
	case err == nil, errors.Is(err, store.ErrNoHold), errors.Is(err, store.ErrMismatch):
	case errors.Is(err, context.Canceled):
		span.SetAttributes(attrError.String(canceled))
	default:
		kind := s.kind(err)
		span.SetAttributes(attrError.String(kind))
		span.SetStatus(codes.Error, kind)
	}
	return err
}
