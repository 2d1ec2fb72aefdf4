package main

import (
	"context"
	"fmt"
	"io"
	"net"

	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"

	"github.com/ratelimitd/ratelimitd/internal/app"
	costv1 "github.com/ratelimitd/ratelimitd/pkg/api/ratelimitd/cost/v1"
)

// ceiling answers OK to everything without deciding: what the gRPC stack costs by itself.
type ceiling struct {
	rlsv3.UnimplementedRateLimitServiceServer
}

// ShouldRateLimit answers OK, with one bare OK status per descriptor.
func (ceiling) ShouldRateLimit(_ context.Context, req *rlsv3.RateLimitRequest) (*rlsv3.RateLimitResponse, error) {
	statuses := make([]*rlsv3.RateLimitResponse_DescriptorStatus, len(req.GetDescriptors()))
	for i := range statuses {
		statuses[i] = &rlsv3.RateLimitResponse_DescriptorStatus{Code: rlsv3.RateLimitResponse_OK}
	}

	return &rlsv3.RateLimitResponse{OverallCode: rlsv3.RateLimitResponse_OK, Statuses: statuses}, nil
}

// runCeiling is the ceiling's process. It collects garbage as the daemon does, and ends when its input does.
func runCeiling(addr string, in io.Reader) error {
	app.TuneRuntime(app.DefaultMemoryLimit)

	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", addr)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", addr, err)
	}

	server := grpc.NewServer(app.ServerOptions()...)
	rlsv3.RegisterRateLimitServiceServer(server, ceiling{})
	costv1.RegisterCostServiceServer(server, newBareCosts())

	go func() {
		_, _ = io.Copy(io.Discard, in)
		server.Stop()
	}()

	if err := server.Serve(listener); err != nil {
		return fmt.Errorf("serve on %s: %w", addr, err)
	}

	return nil
}
