package admin

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/ratelimitd/ratelimitd/internal/engine"
	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/store"
	"github.com/ratelimitd/ratelimitd/internal/telemetry"
	adminv1 "github.com/ratelimitd/ratelimitd/pkg/api/ratelimitd/admin/v1"
)

// fakeEngine keeps overrides in a map and the subjects that were reset.
type fakeEngine struct {
	overrides map[store.Subject]string
	reset     []store.Subject
	err       error
}

func (f *fakeEngine) SetOverride(_ context.Context, s store.Subject, value string) (int64, error) {
	if f.overrides == nil {
		f.overrides = make(map[store.Subject]string)
	}
	f.overrides[s] = value
	return 7, f.err
}

func (f *fakeEngine) Override(_ context.Context, s store.Subject) (version int64, value string, err error) {
	if f.overrides[s] == "" {
		return 0, "", f.err
	}
	return 7, f.overrides[s], f.err
}

func (f *fakeEngine) Reset(_ context.Context, s store.Subject) error {
	f.reset = append(f.reset, s)
	return f.err
}

func user(id string) *adminv1.Subject { return &adminv1.Subject{Kind: "user", Id: id} }

func planOverride(plan string) *adminv1.SetOverrideRequest {
	return &adminv1.SetOverrideRequest{
		Subject: user("1"), Override: &adminv1.SetOverrideRequest_Plan{Plan: plan},
	}
}

func limitsOverride(limits ...string) *adminv1.SetOverrideRequest {
	return &adminv1.SetOverrideRequest{
		Subject:  user("1"),
		Override: &adminv1.SetOverrideRequest_Limits{Limits: &adminv1.LimitList{Limits: limits}},
	}
}

func TestAnOverrideIsReadAsItWasSet(t *testing.T) {
	for _, tc := range []struct {
		set    *adminv1.SetOverrideRequest
		stored string
		want   *adminv1.GetOverrideResponse
	}{
		{
			planOverride("pro"), `{"plan":"pro"}`,
			&adminv1.GetOverrideResponse{Version: 7, Override: &adminv1.GetOverrideResponse_Plan{Plan: "pro"}},
		},
		{
			limitsOverride("10/minute", "5 USD/day"), `{"limits":["10/minute","5 USD/day"]}`,
			&adminv1.GetOverrideResponse{Version: 7, Override: &adminv1.GetOverrideResponse_Limits{
				Limits: &adminv1.LimitList{Limits: []string{"10/minute", "5 USD/day"}},
			}},
		},
	} {
		fake := &fakeEngine{}
		s := New(fake, telemetry.NopLog())
		set, err := s.SetOverride(t.Context(), tc.set)
		if err != nil || set.GetVersion() != 7 {
			t.Fatalf("set %v: version %d, error %v", tc.set, set.GetVersion(), err)
		}
		if got := fake.overrides[store.Subject{Kind: "user", ID: "1"}]; got != tc.stored {
			t.Errorf("stored as %s, want %s", got, tc.stored)
		}
		got, err := s.GetOverride(t.Context(), &adminv1.GetOverrideRequest{Subject: user("1")})
		if err != nil || !proto.Equal(got, tc.want) {
			t.Errorf("read as %v, error %v; want %v", got, err, tc.want)
		}
		if _, err := s.DeleteOverride(t.Context(), &adminv1.DeleteOverrideRequest{Subject: user("1")}); err != nil {
			t.Fatalf("delete: %v", err)
		}
		_, err = s.GetOverride(t.Context(), &adminv1.GetOverrideRequest{Subject: user("1")})
		if status.Code(err) != codes.NotFound {
			t.Errorf("after the deletion it reads %v, want NOT_FOUND", err)
		}
	}
}

func TestResetForgetsTheOneSubject(t *testing.T) {
	fake := &fakeEngine{}
	req := &adminv1.ResetSubjectRequest{Subject: &adminv1.Subject{Kind: "global"}}
	if _, err := New(fake, telemetry.NopLog()).ResetSubject(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	if len(fake.reset) != 1 || fake.reset[0] != (store.Subject{Kind: "global"}) {
		t.Errorf("reset %v, want the global subject", fake.reset)
	}
}

func TestWhatARequestMustSay(t *testing.T) {
	with := func(s *adminv1.Subject) *adminv1.SetOverrideRequest {
		req := planOverride("pro")
		req.Subject = s
		return req
	}
	for _, tc := range []struct {
		name string
		req  *adminv1.SetOverrideRequest
		want string
	}{
		{"no subject", with(nil), "subject.kind is empty"},
		{"a long kind", with(&adminv1.Subject{Kind: strings.Repeat("a", 33), Id: "1"}), "longer than 32"},
		{"no id", with(&adminv1.Subject{Kind: "user"}), "subject.id is empty"},
		{"a long id", with(user(strings.Repeat("a", 65537))), "longer than 65536"},
		{"an id of the global subject", with(&adminv1.Subject{Kind: "global", Id: "1"}), "leave it empty"},
		{"nothing to set", &adminv1.SetOverrideRequest{Subject: user("1")}, "neither plan nor limits"},
		{"an empty plan", planOverride(""), "plan has 0 bytes"},
		{"a long plan", planOverride(strings.Repeat("a", 65)), "plan has 65 bytes"},
		{"no limits", limitsOverride(), "0 limits"},
		{"too many limits", limitsOverride(make([]string, 50)...), "50 limits"},
		{"a long limit", limitsOverride("1/day", strings.Repeat("a", 129)), "limits[1] is longer than 128"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			fake := &fakeEngine{}
			_, err := New(fake, telemetry.NopLog()).SetOverride(t.Context(), tc.req)
			if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("the answer is %v, want INVALID_ARGUMENT with %q", err, tc.want)
			}
			if len(fake.overrides) != 0 {
				t.Errorf("it was stored all the same: %v", fake.overrides)
			}
		})
	}
}

// TestTheLargestListOfLimitsIsAccepted holds the bounds of a request to those of the policy, which reads what is stored.
func TestTheLargestListOfLimitsIsAccepted(t *testing.T) {
	snapshot, _, err := policy.Load("production", policy.Adjustments{})
	if err != nil {
		t.Fatal(err)
	}
	wide := func(amount int, rest string) string {
		text := strconv.Itoa(amount)
		return strings.Repeat("0", maxLimitText-len(text)-len(rest)) + text + rest
	}
	limits := []string{wide(1, " concurrent")}
	for i := range 16 {
		period := "/" + strconv.Itoa(i+1) + "s"
		limits = append(limits, wide(i, period), wide(i, " tokens"+period), wide(i, " USD"+period))
	}
	if len(limits) != maxLimits {
		t.Fatalf("the list has %d limits, want %d", len(limits), maxLimits)
	}
	fake := &fakeEngine{}
	if _, err := New(fake, telemetry.NopLog()).SetOverride(t.Context(), limitsOverride(limits...)); err != nil {
		t.Fatal(err)
	}
	stored := fake.overrides[store.Subject{Kind: "user", ID: "1"}]
	if _, err := snapshot.ParseOverride("user", stored); err != nil {
		t.Errorf("the policy refuses %d bytes of limits that the contract promises to take: %v", len(stored), err)
	}
}

// TestWhatTheStoreSaysIsLoggedAndNotAnswered guards that an answer, which may be shown anywhere, has nothing of a key or of the
// network.
func TestWhatTheStoreSaysIsLoggedAndNotAnswered(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want string // the kind in the log
	}{
		{store.ErrUnavailable, telemetry.KindUnavailable},
		{context.DeadlineExceeded, telemetry.KindTimeout},
		{store.ErrCorrupt, telemetry.KindCorrupt},
		{errors.New("a defect"), telemetry.KindOther},
	} {
		const said = "rl:{user:alice-secret}:o at 10.0.0.1"
		core, lines := observer.New(zapcore.DebugLevel)
		s := New(&fakeEngine{err: fmt.Errorf("%w: %s", tc.err, said)}, telemetry.NewLog(zap.New(core)))
		_, err := s.ResetSubject(t.Context(), &adminv1.ResetSubjectRequest{Subject: user("1")})
		if answer := status.Convert(err).Message(); answer == "" || strings.Contains(answer, "alice") || strings.Contains(answer, "10.0") {
			t.Errorf("%v is answered with %v, want words of our own", tc.err, err)
		}
		told := lines.FilterMessage("a call of the administration has failed").All()
		if len(told) != 1 {
			t.Fatalf("%v makes the lines %v, want one", tc.err, lines.All())
		}
		fields := told[0].ContextMap()
		if text, _ := fields["error"].(string); !strings.Contains(text, said) || fields["kind"] != tc.want {
			t.Errorf("%v is logged with %v, want its text and the kind %s", tc.err, fields, tc.want)
		}
	}
	core, lines := observer.New(zapcore.DebugLevel)
	s := New(&fakeEngine{}, telemetry.NewLog(zap.New(core)))
	if _, err := s.GetOverride(t.Context(), &adminv1.GetOverrideRequest{Subject: user("1")}); err == nil || lines.Len() > 0 {
		t.Errorf("a subject without an override is answered with %v and the lines %v, want an error and none", err, lines.All())
	}
}

func TestErrorsHaveTheCodesOfTheContract(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want codes.Code
	}{
		{engine.ErrBadCall, codes.InvalidArgument},
		{store.ErrUnavailable, codes.Unavailable},
		{context.DeadlineExceeded, codes.Unavailable},
		{context.Canceled, codes.Canceled},
		{store.ErrCorrupt, codes.DataLoss},
		{store.ErrFull, codes.ResourceExhausted},
		{errors.New("a defect"), codes.Internal},
	} {
		s := New(&fakeEngine{err: fmt.Errorf("doing it: %w", tc.err)}, telemetry.NopLog())
		_, set := s.SetOverride(t.Context(), planOverride("pro"))
		_, get := s.GetOverride(t.Context(), &adminv1.GetOverrideRequest{Subject: user("1")})
		_, del := s.DeleteOverride(t.Context(), &adminv1.DeleteOverrideRequest{Subject: user("1")})
		_, reset := s.ResetSubject(t.Context(), &adminv1.ResetSubjectRequest{Subject: user("1")})
		for _, err := range []error{set, get, del, reset} {
			if status.Code(err) != tc.want {
				t.Errorf("%v becomes %v, want %v", tc.err, err, tc.want)
			}
		}
	}
	s := New(&fakeEngine{overrides: map[store.Subject]string{{Kind: "user", ID: "1"}: "not ours"}}, telemetry.NopLog())
	_, err := s.GetOverride(t.Context(), &adminv1.GetOverrideRequest{Subject: user("1")})
	if status.Code(err) != codes.DataLoss {
		t.Errorf("an override that is not ours becomes %v, want DATA_LOSS", err)
	}
}
