package cost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ratelimitd/ratelimitd/internal/engine"
	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/store"
	costv1 "github.com/ratelimitd/ratelimitd/pkg/api/ratelimitd/cost/v1"
)

// denied is an error of a limit's reason.
func denied(reason engine.Reason, unit store.Unit, wait, retry time.Duration) *engine.CostError {
	d := &engine.Denial{
		Reason: reason, Tier: "user", ID: "a\xff", Limit: policy.Limit{Name: "day", Unit: unit, Max: 5, Period: day},
		Used: 4, Asked: 2, Wait: wait, RetryIn: retry,
	}
	if wait != store.Never {
		d.Available = noon.Add(wait)
	}
	return &engine.CostError{Reason: reason, Text: "no room", Denial: d}
}

func plain(reason engine.Reason) *engine.CostError {
	return &engine.CostError{Reason: reason, Text: "no"}
}

func TestEachReasonHasItsCodeItsStatusAndItsTime(t *testing.T) {
	for _, tc := range []struct {
		name   string
		err    error
		code   codes.Code
		http   int
		reason string
		retry  string // Retry-After; empty for none
	}{
		{"requests", denied(engine.RateLimited, store.Requests, 1500*time.Millisecond, 1500*time.Millisecond), codes.ResourceExhausted, 429, "RATE_LIMITED", "2"},
		{"slots", denied(engine.ConcurrencyLimit, store.Concurrent, time.Hour, 100*time.Millisecond), codes.ResourceExhausted, 429, "CONCURRENCY_LIMIT", "1"},
		{"tokens", denied(engine.TokenLimit, store.Tokens, time.Minute, time.Minute), codes.ResourceExhausted, 429, "TOKEN_LIMIT", "60"},
		{"user budget", denied(engine.UserBudgetExhausted, store.USD, 2*time.Hour, 2*time.Hour), codes.ResourceExhausted, 429, "USER_BUDGET_EXHAUSTED", "7200"},
		{"global budget", denied(engine.GlobalBudgetExhausted, store.USD, day, day), codes.ResourceExhausted, 429, "GLOBAL_BUDGET_EXHAUSTED", "86400"},
		{"a limit of nothing", denied(engine.RateLimited, store.Requests, store.Never, store.Never), codes.ResourceExhausted, 429, "RATE_LIMITED", ""},
		{"too expensive", denied(engine.RequestTooExpensive, store.USD, store.Never, store.Never), codes.FailedPrecondition, 400, "REQUEST_TOO_EXPENSIVE", ""},
		{"no price", plain(engine.PriceUnknown), codes.FailedPrecondition, 400, "PRICE_UNKNOWN", ""},
		{"has ended", plain(engine.ReservationNotActive), codes.FailedPrecondition, 400, "RESERVATION_NOT_ACTIVE", ""},
		{"not found", plain(engine.ReservationNotFound), codes.NotFound, 404, "RESERVATION_NOT_FOUND", ""},
		{"mismatch", plain(engine.IdempotencyMismatch), codes.AlreadyExists, 409, "IDEMPOTENCY_MISMATCH", ""},
		{"no store", plain(engine.StoreUnavailable), codes.Unavailable, 503, "STORE_UNAVAILABLE", "1"},
		{"a deadline of the store's", &engine.CostError{Reason: engine.StoreUnavailable, Text: "no", Err: context.DeadlineExceeded}, codes.Unavailable, 503, "STORE_UNAVAILABLE", "1"},
		{"a store's error as it is", fmt.Errorf("ask: %w", store.ErrTimeout), codes.Unavailable, 503, "STORE_UNAVAILABLE", "1"},
		{"wrapped", fmt.Errorf("settle: %w", plain(engine.ReservationNotFound)), codes.NotFound, 404, "RESERVATION_NOT_FOUND", ""},
		{"bad field", &engine.CostError{Reason: engine.InvalidArgument, Field: "model", Text: "model is wrong"}, codes.InvalidArgument, 400, "INVALID_ARGUMENT", ""},
		{"bad without a field", plain(engine.InvalidArgument), codes.InvalidArgument, 400, "INVALID_ARGUMENT", ""},
		{"stopping", errStopping, codes.Unavailable, 503, "SHUTTING_DOWN", "1"},
		{"too many wait", errManyWait, codes.Unavailable, 503, "BUSY", "1"},
		{"gone", fmt.Errorf("wait: %w", context.Canceled), codes.Canceled, 499, "CANCELLED", ""},
		{"late", context.DeadlineExceeded, codes.DeadlineExceeded, 504, "DEADLINE_EXCEEDED", ""},
		{"a defect", errors.New("a defect \xff"), codes.Internal, 500, "INTERNAL", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := newServer(t, &fakeEngine{err: tc.err}).Quote(t.Context(), &costv1.QuoteRequest{UserId: "1"})
			st := status.Convert(err)
			if st.Code() != tc.code || st.Message() == "" {
				t.Errorf("%v, want %v with a text", err, tc.code)
			}
			for _, d := range st.Details() {
				if info, ok := d.(*errdetails.ErrorInfo); ok && (info.GetReason() != tc.reason || info.GetDomain() != "ratelimitd") {
					t.Errorf("the error info is %v, want %s of ratelimitd", info, tc.reason)
				}
			}
			p := readProblem(err)
			rec := httptest.NewRecorder()
			p.write(rec)
			var sent problem
			if err := json.Unmarshal(rec.Body.Bytes(), &sent); err != nil {
				t.Fatalf("the body %q is no JSON: %v", rec.Body, err)
			}
			if rec.Code != tc.http || sent.Status != tc.http || sent.Reason != tc.reason || sent.Title == "" ||
				sent.Type != "urn:ratelimitd:problem:"+strings.ToLower(strings.ReplaceAll(tc.reason, "_", "-")) ||
				sent.Detail != st.Message() || rec.Header().Get("Retry-After") != tc.retry || (sent.RetryAfter != nil) != (tc.retry != "") {
				t.Errorf("HTTP %d with Retry-After %q and\n%s\nwant %d, %q and the reason %s",
					rec.Code, rec.Header().Get("Retry-After"), rec.Body, tc.http, tc.retry, tc.reason)
			}
			if got := rec.Header().Get("Content-Type"); got != "application/problem+json" {
				t.Errorf("content type %q", got)
			}
		})
	}
}

func TestADenialSaysWhichLimitAndWhen(t *testing.T) {
	err := &engine.CostError{Reason: engine.UserBudgetExhausted, Text: "the budget is used up", Denial: userBudget()}
	_, err2 := newServer(t, &fakeEngine{err: err}).Reserve(t.Context(), &costv1.ReserveRequest{UserId: "123"})
	var (
		info  *errdetails.ErrorInfo
		quota *errdetails.QuotaFailure
		retry *errdetails.RetryInfo
	)
	for _, d := range status.Convert(err2).Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			info = d
		case *errdetails.QuotaFailure:
			quota = d
		case *errdetails.RetryInfo:
			retry = d
		}
	}
	want := map[string]string{
		"tier": "user", "id": "123", "name": "day", "unit": "usd", "limit": "5", "used": "4.99", "asked": "0.02",
		"available_at": "2030-01-02T14:00:00.000Z",
	}
	if !reflect.DeepEqual(info.GetMetadata(), want) {
		t.Errorf("the metadata is %v, want %v", info.GetMetadata(), want)
	}
	if v := quota.GetViolations(); len(v) != 1 || v[0].GetSubject() != "user:123" ||
		!strings.Contains(v[0].GetDescription(), "back at 2030-01-02T14:00:00.000Z, and to retry before that is useless") {
		t.Errorf("the quota failure is %v", quota)
	}
	if retry.GetRetryDelay().AsDuration() != 2*time.Hour-1 {
		t.Errorf("the retry delay is %v, want the denial's", retry)
	}
	p := readProblem(err2)
	if p.Status != http.StatusTooManyRequests || p.Tier != "user" || p.ID != "123" || p.Name != "day" || p.Unit != "usd" ||
		p.Limit != "5" || p.Used != "4.99" || p.Asked != "0.02" || p.AvailableAt != "2030-01-02T14:00:00.000Z" || *p.RetryAfter != 7200 {
		t.Errorf("the problem is %+v", p)
	}
}

func TestAFieldOfTheEnginesIsNamedOnce(t *testing.T) {
	bad := &engine.CostError{Reason: engine.InvalidArgument, Field: "subjects", Text: "subjects has a key that is the user's"}
	_, err := newServer(t, &fakeEngine{err: bad}).Quote(t.Context(), &costv1.QuoteRequest{UserId: "1"})
	p := readProblem(err)
	if p.Detail != bad.Text || p.Field != "subjects" || len(p.Errors) != 1 || p.Errors[0].Detail != "has a key that is the user's" {
		t.Errorf("the problem is %+v", p)
	}
}
