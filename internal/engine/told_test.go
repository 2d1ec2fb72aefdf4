package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/ratelimitd/ratelimitd/internal/budget"
	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/store"
	"github.com/ratelimitd/ratelimitd/internal/telemetry"
)

// watched is what an engine tells: to spans, to the decision log and to the log.
type watched struct {
	spans    *tracetest.SpanRecorder
	provider *sdktrace.TracerProvider
	written  bytes.Buffer
	decided  *telemetry.DecisionLog
	log      *observer.ObservedLogs
}

// watch has an engine tell all it can.
func (w *watched) watch(which, ids string) func(*Options) {
	return func(opt *Options) {
		w.spans = tracetest.NewSpanRecorder()
		w.provider = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(w.spans))
		core, lines := observer.New(zapcore.InfoLevel)
		w.log = lines
		opt.Log = telemetry.NewLog(zap.New(core))
		w.decided = telemetry.NewDecisionLog(telemetry.DecisionLogOptions{
			Which: which, IDs: ids, Key: bytes.Repeat([]byte("k"), telemetry.MinHashKey), Out: &w.written,
		}, opt.Log, opt.Metrics.LostDecisions)
		opt.Traced, opt.Decisions = true, w.decided
	}
}

// in calls within a span and returns the span's attributes.
func (w *watched) in(t *testing.T, call func(ctx context.Context)) map[attribute.Key]attribute.Value {
	t.Helper()
	ctx, span := w.provider.Tracer("test").Start(t.Context(), "call")
	call(ctx)
	span.End()
	ended := w.spans.Ended()
	out := map[attribute.Key]attribute.Value{}
	for _, a := range ended[len(ended)-1].Attributes() {
		out[a.Key] = a.Value
	}
	return out
}

// lines closes the decision log and returns what it has written.
func (w *watched) lines(t *testing.T) []map[string]any {
	t.Helper()
	if err := w.decided.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	var lines []map[string]any
	for line := range strings.Lines(w.written.String()) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatalf("a line is no JSON: %v: %q", err, line)
		}
		lines = append(lines, fields)
	}
	return lines
}

// tells checks fields of a line, or attributes of a span.
func tells(t *testing.T, what string, got, want map[string]any) {
	t.Helper()
	for name, value := range want {
		if fmt.Sprint(got[name]) != fmt.Sprint(value) {
			t.Errorf("%s: %s is %v, want %v; all: %v", what, name, got[name], value, got)
		}
	}
}

// texts are attributes by their names.
func texts(attrs map[attribute.Key]attribute.Value) map[string]any {
	out := map[string]any{}
	for k, v := range attrs {
		out[string(k)] = v.AsInterface()
	}
	return out
}

func TestADecisionIsToldToItsSpanAndToTheDecisionLog(t *testing.T) {
	var w watched
	run(t, w.watch(telemetry.DecisionsAll, telemetry.IDsPlain), func(t *testing.T, b *bench) {
		decide := func(ctx context.Context) {
			var dec Decision
			call := &policy.Call{Domain: "assistant", Descriptors: []policy.Descriptor{user("alice", 1)}}
			if err := b.Decide(ctx, call, &dec); err != nil {
				t.Fatal(err)
			}
		}
		allowed := texts(w.in(t, decide))
		tells(t, "the span of a call that passes", allowed, map[string]any{
			"ratelimitd.verdict": "allowed", "ratelimitd.mode": "stored", "ratelimitd.tier": "user", "ratelimitd.limit": "minute",
			"ratelimitd.unit":  "requests",
			"ratelimitd.tiers": []string{"user", "global"}, "ratelimitd.retry_after": nil, "ratelimitd.shadow_denied": nil,
		})
		w.in(t, decide)
		shadowed := texts(w.in(t, decide))
		tells(t, "the span of a call past a shadow limit", shadowed, map[string]any{
			"ratelimitd.verdict": "allowed", "ratelimitd.shadow_denied": []string{"user:second:requests"},
		})
		denied := texts(w.in(t, decide))
		tells(t, "the span of a denial", denied, map[string]any{"ratelimitd.verdict": "denied", "ratelimitd.retry_after": 60.0})
		local := texts(w.in(t, decide))
		tells(t, "the span of a denial from memory", local, map[string]any{"ratelimitd.mode": "local"})
		for _, span := range []map[string]any{allowed, shadowed, denied, local} {
			if strings.Contains(fmt.Sprint(span), "alice") {
				t.Errorf("a span names the user: %v", span)
			}
		}
		b.store.fail(store.ErrTimeout)
		tells(t, "the span of a call that fails open", texts(w.in(t, func(ctx context.Context) {
			var dec Decision
			if err := b.Decide(ctx, &policy.Call{Domain: "assistant", Descriptors: []policy.Descriptor{user("bob", 1)}}, &dec); err != nil {
				t.Fatal(err)
			}
		})), map[string]any{"ratelimitd.mode": "failed_open", "ratelimitd.limit": "none", "ratelimitd.unit": "none"})
		b.store.fail(nil)

		lines := w.lines(t)
		if len(lines) != 6 {
			t.Fatalf("6 decisions are %d lines", len(lines))
		}
		checks := []any{
			map[string]any{"tier": "user", "id": "alice", "unit": "requests", "amount": 1.0},
			map[string]any{"tier": "global", "unit": "requests", "amount": 1.0},
		}
		tells(t, "the line of a call that passes", lines[0], map[string]any{
			"logger": "decision", "msg": "allowed", "verdict": "allowed", "mode": "stored", "domain": "assistant", "tier": "user",
			"limit": "minute", "unit": "requests", "max": 3, "remaining": 2, "checks": checks, "duration": 0, "retry_after": nil,
			"trace_id": w.spans.Ended()[0].SpanContext().TraceID(), "span_id": w.spans.Ended()[0].SpanContext().SpanID(),
		})
		tells(t, "the line of a call past a shadow limit", lines[2], map[string]any{"verdict": "allowed", "shadow": []any{"user:second:requests"}})
		tells(t, "the line of a denial", lines[3], map[string]any{"verdict": "denied", "remaining": 0, "retry_after": 60})
		tells(t, "the line of a call that fails open", lines[5], map[string]any{"mode": "failed_open", "limit": "none", "max": nil})

		if got := w.log.FilterMessage("denied a call").All(); len(got) != 1 || strings.Contains(fmt.Sprint(got[0]), "alice") ||
			got[0].ContextMap()["trace_id"] != w.spans.Ended()[3].SpanContext().TraceID().String() {
			t.Errorf("two denials at once are logged as %v, want one line in the trace of the first, without the user", got)
		}
	})
}

func TestADecisionLogOfDenialsTellsOfThoseAndOfShadowLimits(t *testing.T) {
	var w watched
	run(t, w.watch(telemetry.DecisionsDenied, telemetry.IDsHashed), func(t *testing.T, b *bench) {
		b.exhaust("alice") // its third call goes past the shadow limit
		lines := w.lines(t)
		if len(lines) != 2 || lines[0]["verdict"] != "allowed" || lines[0]["shadow"] == nil || lines[1]["verdict"] != "denied" {
			t.Errorf("the lines are %v, want the third call and the fourth", lines)
		}
		if strings.Contains(w.written.String(), "alice") {
			t.Errorf("hashed ids show the user: %s", w.written.String())
		}
	})
}

func TestMoneyIsToldToSpansAndTheDecisionLog(t *testing.T) {
	var w watched
	runCost(t, "", w.watch(telemetry.DecisionsAll, telemetry.IDsPlain), func(t *testing.T, b *bench) {
		var grant *Grant
		tells(t, "the span of a reservation", texts(w.in(t, func(ctx context.Context) {
			var err error
			if grant, err = b.Reserve(ctx, of("alice", 100, 100)); err != nil {
				t.Fatal(err)
			}
		})), map[string]any{"ratelimitd.verdict": "allowed", "ratelimitd.held_usd": 0.00035})
		settlement := &Settlement{ReservationID: grant.ReservationID, Usage: &budget.Usage{Input: 100, Output: 10}}
		for _, duplicate := range []any{nil, true} {
			tells(t, "the span of a settlement", texts(w.in(t, func(ctx context.Context) {
				if _, err := b.Settle(ctx, settlement); err != nil {
					t.Fatal(err)
				}
			})), map[string]any{"ratelimitd.end": "settled", "ratelimitd.cost_usd": 0.00012, "ratelimitd.duplicate": duplicate})
		}
		tells(t, "the span of a reservation that can never be", texts(w.in(t, func(ctx context.Context) {
			var cost *CostError
			if _, err := b.Reserve(ctx, of("alice", 10_000_000, 1)); !errors.As(err, &cost) {
				t.Fatalf("a reservation of 10 USD ends with %v, want a denial", err)
			}
		})), map[string]any{"ratelimitd.verdict": "denied", "ratelimitd.held_usd": nil})
		lines := w.lines(t)
		if len(lines) != 2 {
			t.Fatalf("2 decisions are %d lines: %v", len(lines), lines)
		}
		tells(t, "the line of a reservation", lines[0], map[string]any{"held_usd": 0.00035, "verdict": "allowed"})
		if all := fmt.Sprint(lines[0]["checks"]); !strings.Contains(all, "amount:0.00035") || !strings.Contains(all, "unit:usd") {
			t.Errorf("the checks of a reservation are %s, want 0.00035 USD", all)
		}
		tells(t, "the line of a reservation that can never be", lines[1], map[string]any{"never": true, "retry_after": nil})
	})
}

func TestACallOfManySubjectsIsListedInPart(t *testing.T) {
	var w watched
	run(t, w.watch(telemetry.DecisionsAll, telemetry.IDsPlain), func(t *testing.T, b *bench) {
		var descriptors []policy.Descriptor
		for i := range mostChecks + 4 {
			descriptors = append(descriptors, user(fmt.Sprint("u", i), 1))
		}
		b.decide(descriptors...)
		line := w.lines(t)[0]
		if checks, ok := line["checks"].([]any); !ok || len(checks) != mostChecks || line["left_out"] != 5.0 {
			t.Errorf("%d checks are listed and %v left out, want %d and 5", len(checks), line["left_out"], mostChecks)
		}
	})
}

// BenchmarkTold measures what a decision costs that nobody but the metrics hears of, and one that is written to the decision log.
func BenchmarkTold(b *testing.B) {
	limit := &policy.Limit{Name: "minute", Unit: store.Requests, Max: 10, Period: time.Minute}
	dec := &Decision{Deciding: Status{Matched: true, Tier: "user", Limit: limit, Remaining: 3}}
	checks := []policy.Check{
		{Tier: "user", Check: store.Check{Subject: store.Subject{Kind: "user", ID: "user-1234567"}, Unit: store.Requests, Amount: 1}},
		{Tier: "global", Check: store.Check{Subject: store.Subject{Kind: "global"}, Unit: store.Requests, Amount: 1}},
	}
	for name, change := range map[string]func(*Options){
		"off": func(*Options) {},
		"decision-log": func(opt *Options) {
			opt.Decisions = telemetry.NewDecisionLog(telemetry.DecisionLogOptions{
				Which: telemetry.DecisionsAll, IDs: telemetry.IDsPlain, Out: discard{},
			}, telemetry.NopLog(), opt.Metrics.LostDecisions)
		},
	} {
		b.Run(name, func(b *testing.B) {
			opt := Options{Metrics: telemetry.NewMetrics(prometheus.NewRegistry()), Log: telemetry.NopLog()}
			change(&opt)
			e := &Engine{opt: opt, counters: newCounters(opt.Metrics)}
			call := &policy.Call{Domain: "assistant"}
			b.ReportAllocs()
			for b.Loop() {
				e.told(b.Context(), call, checks, dec, time.Now())
			}
			if opt.Decisions != nil {
				_ = opt.Decisions.Close(b.Context())
			}
		})
	}
}

// discard takes everything.
type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }
