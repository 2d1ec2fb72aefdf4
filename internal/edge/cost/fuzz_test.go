package cost

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ratelimitd/ratelimitd/internal/budget"
	"github.com/ratelimitd/ratelimitd/internal/engine"
	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/store"
	costv1 "github.com/ratelimitd/ratelimitd/pkg/api/ratelimitd/cost/v1"
)

// boundedEngine answers what is within the engine's bounds, and errs on anything else with what the edge makes INTERNAL.
type boundedEngine struct{ fakeEngine }

var errUnbounded = errors.New("the engine was asked what is out of its bounds")

func within(ok ...bool) error {
	for _, each := range ok {
		if !each {
			return errUnbounded
		}
	}
	return nil
}

func isText(text string, least, most int) bool {
	return len(text) >= least && len(text) <= most && utf8.ValidString(text) && !strings.Contains(text, "\x00")
}

func areTokens(counts ...int64) bool {
	for _, n := range counts {
		if n < 0 || n > engine.MaxTokens {
			return false
		}
	}
	return true
}

func isMoney(nano int64) bool { return nano >= 0 && nano <= store.MaxAmount }

func isSpender(s engine.Spender) bool {
	ok := isText(s.UserID, 1, engine.MaxID) && isText(s.Plan, 0, engine.MaxID) && isText(s.Model, 0, engine.MaxModel) &&
		len(s.Subjects)+len(s.Tags) <= engine.MaxEntries
	for _, entries := range []map[string]string{s.Subjects, s.Tags} {
		for key, value := range entries {
			ok = ok && isText(key, 1, engine.MaxID) && isText(value, 1, engine.MaxID)
		}
	}
	return ok
}

func isAsk(a engine.Ask) bool {
	return areTokens(a.InputTokens, a.CachedInputTokens, a.MaxOutputTokens) && isMoney(a.MaxCost)
}

func isUsage(u *budget.Usage) bool {
	return u == nil || areTokens(u.Input, u.CacheRead, u.CacheWrite, u.Output, u.Reasoning)
}

func isReservation(id string) bool { return isText(id, 1, MaxReservationID) }

func isLease(d time.Duration) bool { return d == 0 || (d >= engine.MinTTL && d <= engine.MaxTTL) }

func (b *boundedEngine) Quote(ctx context.Context, a *engine.QuoteAsk) (*engine.Quotation, error) {
	if err := within(isSpender(a.Spender), isAsk(a.Ask), areTokens(a.ExpectedOutputTokens)); err != nil {
		return nil, err
	}
	return b.fakeEngine.Quote(ctx, a)
}

func (b *boundedEngine) Reserve(ctx context.Context, r *engine.Reservation) (*engine.Grant, error) {
	err := within(isSpender(r.Spender), isAsk(r.Ask), isText(r.Key, 0, engine.MaxKey), isLease(r.TTL),
		r.Wait >= 0, r.Wait <= engine.MaxWait)
	if err != nil {
		return nil, err
	}
	return b.fakeEngine.Reserve(ctx, r)
}

func (b *boundedEngine) Extend(ctx context.Context, x *engine.Extension) (*engine.Extended, error) {
	err := within(isReservation(x.ReservationID), isLease(x.TTL), areTokens(x.MaxOutputTokens), isMoney(x.MaxCost))
	if err != nil {
		return nil, err
	}
	return b.fakeEngine.Extend(ctx, x)
}

func (b *boundedEngine) Settle(ctx context.Context, s *engine.Settlement) (*engine.Receipt, error) {
	err := within(isReservation(s.ReservationID), isText(s.Model, 0, engine.MaxModel),
		isUsage(s.Usage), s.ProviderCost == nil || isMoney(*s.ProviderCost),
		s.Outcome == "" || slices.Contains(policy.Outcomes(), s.Outcome))
	if err != nil {
		return nil, err
	}
	return b.fakeEngine.Settle(ctx, s)
}

func (b *boundedEngine) Release(ctx context.Context, id string) (*engine.Receipt, error) {
	if err := within(isReservation(id)); err != nil {
		return nil, err
	}
	return b.fakeEngine.Release(ctx, id)
}

func (b *boundedEngine) Record(ctx context.Context, r *engine.Record) (*engine.Receipt, error) {
	err := within(isSpender(r.Spender), isText(r.Key, 1, engine.MaxKey), isUsage(&r.Usage),
		r.ProviderCost == nil || isMoney(*r.ProviderCost), r.Occurred.IsZero() || r.Occurred.UnixMicro() > 0)
	if err != nil {
		return nil, err
	}
	return b.fakeEngine.Record(ctx, r)
}

func (b *boundedEngine) CostUsage(ctx context.Context, id string) ([]engine.LimitState, error) {
	if err := within(isText(id, 0, engine.MaxID)); err != nil {
		return nil, err
	}
	return b.fakeEngine.CostUsage(ctx, id)
}

// fuzz sends bytes as a message of gRPC, and as a body to a path. Whatever they are, the edge does not panic, and its
// answer is never INTERNAL.
func fuzz(f *testing.F, path string, example proto.Message) {
	f.Helper()
	wire, err := proto.Marshal(example)
	if err != nil {
		f.Fatal(err)
	}
	written, err := protojson.Marshal(example)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(wire)
	f.Add(written)
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"user_id":"\u0000","ttl":"-1s","max_cost_usd":"0.0000000001","reservation_id":"a/b","records":[null]}`))
	engines := map[string]Engine{"answers": &boundedEngine{fakeEngine{limits: someLimits()}}}
	for _, err := range []error{
		denied(engine.UserBudgetExhausted, store.USD, time.Hour, time.Hour), plain(engine.StoreUnavailable), context.Canceled,
	} {
		engines[err.Error()] = &boundedEngine{fakeEngine{err: err}}
	}
	for name, e := range engines {
		s := newServer(f, e)
		h, err := NewHandler(s)
		if err != nil {
			f.Fatal(err)
		}
		engines[name] = &fuzzTarget{e, s, h}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for name, e := range engines {
			target := e.(*fuzzTarget)
			message := example.ProtoReflect().New().Interface()
			if proto.Unmarshal(data, message) == nil {
				resp, err := call(t.Context(), target.server, message)
				if err := sendable(resp, err); err != nil {
					t.Fatalf("%s: %v: %v", name, message, err)
				}
			}
			target.post(t, name, path, data)
		}
	})
}

// fuzzTarget is an engine behind its two faces.
type fuzzTarget struct {
	Engine

	server *Server
	http   http.Handler
}

func (f *fuzzTarget) post(t *testing.T, name, path string, data []byte) {
	t.Helper()
	method, body := http.MethodPost, string(data)
	if strings.HasSuffix(path, "=") {
		method, path, body = http.MethodGet, path+escape(data), ""
	}
	rec := httptest.NewRecorder()
	f.http.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body)))
	if rec.Code == http.StatusInternalServerError || rec.Body.Len() == 0 {
		t.Fatalf("%s: %q is answered %d: %s", name, data, rec.Code, rec.Body)
	}
}

// escape writes each byte so that it can stand in a query.
func escape(data []byte) string {
	var b strings.Builder
	for _, c := range data {
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return b.String()
}

// sendable says why an answer cannot be sent, or is none that a caller may get.
func sendable(resp proto.Message, err error) error {
	if err != nil {
		if st := status.Convert(err); st.Code() == codes.Internal || st.Code() == codes.Unknown || st.Message() == "" {
			return fmt.Errorf("is answered %w", err)
		}
		resp = status.Convert(err).Proto()
	}
	if _, err := proto.Marshal(resp); err != nil {
		return fmt.Errorf("the answer cannot be sent: %w", err)
	}
	return nil
}

var fuzzMap = map[string]string{"org_id": "acme"}

func FuzzQuote(f *testing.F) {
	fuzz(f, "/v1/quote", &costv1.QuoteRequest{
		UserId: "1", Plan: "p", Subjects: fuzzMap, Tags: fuzzMap, Model: "m", InputTokens: 1, CachedInputTokens: 2,
		MaxOutputTokens: 4, ExpectedOutputTokens: 3, MaxCostUsd: "0.01",
	})
}

func FuzzReserve(f *testing.F) {
	fuzz(f, "/v1/reservations", &costv1.ReserveRequest{
		IdempotencyKey: "k", UserId: "1", Plan: "p", Subjects: fuzzMap, Tags: fuzzMap, Model: "m", InputTokens: 1,
		CachedInputTokens: 2, MaxOutputTokens: 4, MaxCostUsd: "0.01", Ttl: durationpb.New(time.Minute), Slot: new(true),
		Partial: true, WaitTimeout: durationpb.New(time.Second),
	})
}

func FuzzExtend(f *testing.F) {
	fuzz(f, "/v1/reservations/"+theID+"/extend", &costv1.ExtendRequest{
		ReservationId: theID, Ttl: durationpb.New(time.Minute), MaxOutputTokens: 4, MaxCostUsd: "0.01",
	})
}

func FuzzSettle(f *testing.F) {
	fuzz(f, "/v1/reservations/"+theID+"/settle", &costv1.SettleRequest{
		ReservationId: theID, IdempotencyKey: "k", Model: "m", Outcome: "error", ProviderCostUsd: "0.01",
		Usage: &costv1.Usage{InputTokens: 1, CacheReadTokens: 2, CacheWriteTokens: 3, OutputTokens: 4, ReasoningTokens: 5},
	})
}

func FuzzRelease(f *testing.F) {
	fuzz(f, "/v1/reservations/"+theID+"/release", &costv1.ReleaseRequest{ReservationId: theID, IdempotencyKey: "k"})
}

func fuzzRecord() *costv1.RecordRequest {
	return &costv1.RecordRequest{
		IdempotencyKey: "k", UserId: "1", Plan: "p", Subjects: fuzzMap, Tags: fuzzMap, Model: "m",
		Usage: &costv1.Usage{InputTokens: 1}, ProviderCostUsd: "0.01", OccurredAt: timestamppb.New(noon),
	}
}

func FuzzRecord(f *testing.F) { fuzz(f, "/v1/records", fuzzRecord()) }

func FuzzRecordBatch(f *testing.F) {
	fuzz(f, "/v1/records", &costv1.RecordBatchRequest{Records: []*costv1.RecordRequest{fuzzRecord(), {}}})
}

func FuzzGetUsage(f *testing.F) {
	fuzz(f, "/v1/usage?user_id=", &costv1.GetUsageRequest{UserId: "1"})
}
