package traced

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"

	"github.com/ratelimitd/ratelimitd/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// answering is a store that has one answer to everything.
type answering struct {
	store.Store
	err error
}

func (a answering) Admit(context.Context, *store.Request, *store.Answer) error { return a.err }

func (a answering) Settle(context.Context, *store.Settlement, *store.Settled) error { return a.err }

func (a answering) Refund(context.Context, *store.Request, *store.Answer) (int64, error) {
	return 3, a.err
}

func (a answering) Reset(context.Context, store.Subject) error { return a.err }

func (a answering) SetOverride(context.Context, store.Subject, string) (int64, error) {
	return 4, a.err
}

func (a answering) Override(context.Context, store.Subject) (version int64, value string, err error) {
	return 5, "v", a.err
}

// calls are all that a caller can ask; each returns whether the answer is the store's.
func calls(ctx context.Context, s store.Store) map[string]error {
	check := func(got, want any, err error) error {
		if got != want {
			return fmt.Errorf("got %v, want %v", got, want)
		}
		return err
	}
	given, errGiven := s.Refund(ctx, new(store.Request), new(store.Answer))
	version, errSet := s.SetOverride(ctx, store.Subject{}, "v")
	_, value, errGot := s.Override(ctx, store.Subject{})
	return map[string]error{
		"admit":        s.Admit(ctx, &store.Request{Checks: make([]store.Check, 2)}, new(store.Answer)),
		"look":         s.Admit(ctx, &store.Request{Look: true}, new(store.Answer)),
		"settle":       s.Settle(ctx, new(store.Settlement), new(store.Settled)),
		"release":      s.Settle(ctx, &store.Settlement{Release: true}, new(store.Settled)),
		"refund":       check(given, int64(3), errGiven),
		"reset":        s.Reset(ctx, store.Subject{}),
		"set override": check(version, int64(4), errSet),
		"override":     check(value, "v", errGot),
	}
}

// kind is the word that these tests have for every error.
func kind(error) string { return "a kind" }

func TestEveryCallIsASpanOfItsCallers(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	ctx, caller := provider.Tracer("test").Start(t.Context(), "caller")
	for name, err := range calls(ctx, New(answering{}, provider.Tracer("store"), "redis", kind)) {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	var names []string
	for _, s := range spans.Ended() {
		names = append(names, s.Name())
		if s.Parent().SpanID() != caller.SpanContext().SpanID() || s.SpanKind() != trace.SpanKindClient || s.Status().Code != codes.Unset ||
			!slices.Contains(s.Attributes(), attribute.String("db.system.name", "redis")) {
			t.Errorf("the span is %v, want one of a client of redis, within its caller's", s)
		}
	}
	slices.Sort(names)
	want := []string{
		"admit redis", "look redis", "override redis", "refund redis", "release redis", "reset redis", "set override redis",
		"settle redis",
	}
	if !slices.Equal(names, want) {
		t.Errorf("the spans are %q, want %q", names, want)
	}
}

func TestACallerWithoutASpanThatIsRecordedGetsNone(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans), sdktrace.WithSampler(sdktrace.NeverSample()))
	s := New(answering{}, sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)).Tracer("store"), "redis", kind)
	unsampled, caller := provider.Tracer("test").Start(t.Context(), "caller")
	defer caller.End()
	for _, ctx := range []context.Context{t.Context(), unsampled} {
		for name, err := range calls(ctx, s) {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if got := spans.Started(); len(got) != 0 {
		t.Errorf("the spans are %v, want none", got)
	}
}

func TestAnErrorIsNamedByItsKindAlone(t *testing.T) {
	for _, tc := range []struct {
		err  error
		code codes.Code
		kind string // empty: no error.type
	}{
		{fmt.Errorf("%w: the key of alice", store.ErrCorrupt), codes.Error, "a kind"},
		{fmt.Errorf("%w: connection of alice", store.ErrUnavailable), codes.Error, "a kind"},
		{context.Canceled, codes.Unset, "canceled"},
		{store.ErrNoHold, codes.Unset, ""},
		{store.ErrMismatch, codes.Unset, ""},
	} {
		spans := tracetest.NewSpanRecorder()
		provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
		ctx, caller := provider.Tracer("test").Start(t.Context(), "caller")
		err := New(answering{err: tc.err}, provider.Tracer("store"), "redis", kind).Admit(ctx, new(store.Request), new(store.Answer))
		if !errors.Is(err, tc.err) {
			t.Errorf("the caller hears %v, want %v", err, tc.err)
		}
		caller.End()
		s := spans.Ended()[0]
		if s.Status().Code != tc.code || strings.Contains(fmt.Sprint(s.Attributes(), s.Status(), s.Events()), "alice") {
			t.Errorf("%v makes the span %v %v", tc.err, s.Status(), s.Attributes())
		}
		has := slices.Contains(s.Attributes(), attribute.String("error.type", tc.kind))
		if has != (tc.kind != "") {
			t.Errorf("%v makes the attributes %v, want error.type %q", tc.err, s.Attributes(), tc.kind)
		}
	}
}
