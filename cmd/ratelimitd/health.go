package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/ratelimitd/ratelimitd/internal/app"
)

// errNotServing says that a daemon answers, and that it should not be sent calls.
var errNotServing = errors.New("not serving")

func newHealth(lookup lookupEnv) *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "health [ADDR]",
		Short: "Ask a daemon whether it serves: exit status 0 or 1",
		Long: "Ask a daemon whether it serves, by grpc.health.v1, for probes of images without a shell. Without ADDR it\n" +
			"asks where serve would listen with the same flags and variables. A daemon whose store is away still\n" +
			"serves.",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var addr string
			if len(args) > 0 {
				addr = args[0]
			} else {
				opt, err := app.ReadSettings(cmd.Flags(), lookup)
				if err != nil {
					return fmt.Errorf("settings:\n%w", err)
				}
				addr = opt.GRPCAddrs[0]
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			return probe(ctx, addr)
		},
	}
	app.AddFlags(cmd.Flags())
	cmd.Flags().DurationVar(&timeout, "timeout", time.Second, "How long to wait for the answer.")
	return cmd
}

// probe errs unless the daemon at an address serves.
func probe(ctx context.Context, addr string) (err error) {
	conn, err := grpc.NewClient(target(addr), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return fmt.Errorf("ask %s: %w", addr, err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	resp, err := healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{}, grpc.WaitForReady(true))
	if err != nil {
		return fmt.Errorf("ask %s: %w", addr, err)
	}
	if s := resp.GetStatus(); s != healthv1.HealthCheckResponse_SERVING {
		return fmt.Errorf("%s is %w: %s", addr, errNotServing, s)
	}
	return nil
}

// target is where to reach what listens on an address: a server on all addresses is reached on this machine's own.
func target(addr string) string {
	if strings.HasPrefix(addr, "unix:") {
		return addr
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if ip != nil && ip.To4() == nil {
			host = "::1"
		}
	}
	return "passthrough:///" + net.JoinHostPort(host, port)
}
