package app

import (
	"context"
	"runtime/debug"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/ratelimitd/ratelimitd/internal/telemetry"
)

// Bounds of a gRPC server.
const (
	// maxMessageBytes is the largest message that is read. The largest that Envoy sends is a few KiB.
	maxMessageBytes = 1 << 20
	// maxStreams is how many calls of one connection may be in flight; more wait in the caller.
	maxStreams = 4096
	// minPing is how often a client may ping, with or without calls in flight; Envoy pings as often as it is told to.
	minPing = time.Second
	// pingIdle and pingTimeout find connections whose other end has gone without a word.
	pingIdle    = 2 * time.Minute
	pingTimeout = 20 * time.Second
	// helloTimeout is how long a new connection may take to say that it speaks HTTP/2: until then it holds up a stop.
	helloTimeout = 5 * time.Second
)

// ServerOptions are the options of the daemon's gRPC server, all but what catches panics: what a call costs before it is
// looked at. A benchmark's bare server uses the same.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ConnectionTimeout(helloTimeout),
		grpc.MaxRecvMsgSize(maxMessageBytes),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPing, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: pingIdle, Timeout: pingTimeout}),
	}
}

// endWith ends streams with the context. Those of health and reflection live as long as their clients like.
func endWith(ending context.Context, panics *panics) grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
		done := make(chan error, 1)
		go func() { // it ends with the stream, once this has returned
			var err error
			defer func() { done <- err }()
			defer panics.caught(stream.Context(), info.FullMethod, &err)
			err = next(srv, stream)
		}()
		select {
		case err := <-done:
			return err
		case <-ending.Done():
			return status.Error(codes.Unavailable, "the daemon stops: connect to another")
		}
	}
}

// panics answers a call whose handler panics as an internal error: a defect that one call shows must not end the answers to all
// others.
type panics struct {
	metrics *telemetry.Metrics
	log     *telemetry.Log
}

// catch is for calls with one answer.
func (p *panics) catch(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (resp any, err error) {
	defer p.caught(ctx, info.FullMethod, &err)
	return next(ctx, req)
}

// caught is deferred by who calls a handler.
func (p *panics) caught(ctx context.Context, method string, err *error) {
	if caught := recover(); caught != nil {
		p.metrics.Panics.Inc()
		p.log.Error("a handler panicked", zap.String(telemetry.FieldMethod, method),
			zap.Any("panic", caught), zap.ByteString(telemetry.FieldStack, debug.Stack()), telemetry.InTrace(ctx))
		*err = status.Error(codes.Internal, "internal error")
	}
}
