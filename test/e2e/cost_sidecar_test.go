package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"strings"
	"sync"
	"testing"

	rls "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/ratelimitd/ratelimitd/test/harness"
)

// Users whom the fake sidecar treats in ways of their own.
const (
	deniedUser     = "denied"     // is over a limit
	unansweredUser = "unanswered" // gets an error in place of an answer
)

// sidecar stands for ratelimitd and notes what Envoy tells it.
type sidecar struct {
	rls.UnimplementedRateLimitServiceServer

	addr string

	mu    sync.Mutex
	asked []told // before a request is forwarded
	ended []told // when its stream is over
}

// told is one descriptor, or all those of a stream's end: entries by key, and of the kinds of usage "kind=number".
type told map[string]string

func newSidecar(t *testing.T) *sidecar {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("start the fake sidecar: %v", err)
	}
	s := &sidecar{addr: l.Addr().String()}
	g := grpc.NewServer()
	rls.RegisterRateLimitServiceServer(g, s)
	var wg sync.WaitGroup
	wg.Go(func() { _ = g.Serve(l) }) // ends with Stop
	t.Cleanup(func() { g.Stop(); wg.Wait() })
	return s
}

// ShouldRateLimit answers as ratelimitd does: with a token of the hold, if one is asked for.
func (s *sidecar) ShouldRateLimit(_ context.Context, req *rls.RateLimitRequest) (*rls.RateLimitResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	res := &rls.RateLimitResponse{OverallCode: rls.RateLimitResponse_OK}
	all := told{}
	for _, d := range req.GetDescriptors() {
		one := told{}
		for _, e := range d.GetEntries() {
			one[e.GetKey()] = e.GetValue()
		}
		if d.GetHitsAddend() != nil {
			one[one["usage"]] = fmt.Sprint(d.GetHitsAddend().GetValue())
		}
		if one["usage"] != "" {
			one["usage"] = strings.TrimSpace(all["usage"] + " " + one["usage"])
		}
		maps.Copy(all, one)
		res.Statuses = append(res.Statuses, &rls.RateLimitResponse_DescriptorStatus{Code: rls.RateLimitResponse_OK})
	}
	if all["usage"] != "" {
		s.ended = append(s.ended, all)
		return res, nil
	}
	s.asked = append(s.asked, all)
	switch all["user_id"] {
	case deniedUser:
		res.OverallCode = rls.RateLimitResponse_OVER_LIMIT
	case unansweredUser:
		return nil, status.Error(codes.Internal, "no answer, on purpose")
	default:
		res.DynamicMetadata = &structpb.Struct{Fields: map[string]*structpb.Value{
			"hold": structpb.NewStringValue("token-of-" + all["user_id"]),
		}}
	}
	return res, nil
}

// question returns what was asked for a user, once: the first answer to a request has been given by then.
func (s *sidecar) question(t *testing.T, user string) told {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	found := of(s.asked, user)
	if len(found) != 1 {
		t.Fatalf("%d questions for user %s, want 1: %v", len(found), user, found)
	}
	return found[0]
}

// end waits for what is told of the end of a user's request, and checks that it is told once.
func (s *sidecar) end(t *testing.T, user string) told {
	t.Helper()
	var found []told
	harness.WaitFor(t, "the end of the request of "+user+" is told", func(context.Context) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if found = of(s.ended, user); len(found) == 0 {
			return errors.New("nothing is told")
		}
		return nil
	})
	if len(found) != 1 {
		t.Fatalf("%d ends for user %s, want 1: %v", len(found), user, found)
	}
	return found[0]
}

// ends returns how many ends of requests of a user were told.
func (s *sidecar) ends(user string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(of(s.ended, user))
}

func of(all []told, user string) []told {
	var found []told
	for _, one := range all {
		if one["user_id"] == user {
			found = append(found, one)
		}
	}
	return found
}
