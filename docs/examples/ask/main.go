// Command ask asks ratelimitd as Envoy does, by envoy.service.ratelimit.v3, and prints one line per answer. It is a client
// to try a policy with, and shows how a Go service asks.
//
//	go run ./docs/examples/ask [flags] KEY=VALUE...
//
// The pairs are the entries of one descriptor.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	rlcommon "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	rls "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "ask:", err)
		os.Exit(1)
	}
}

// errNoEntry says that the command line names no descriptor.
var errNoEntry = errors.New("no descriptor: name one entry or more, as user_id=alice")

func run(args []string, out io.Writer) (err error) {
	flags := flag.NewFlagSet("ask", flag.ContinueOnError)
	addr := flags.String("addr", "127.0.0.1:8081", "ask the ratelimitd at this `host:port`")
	calls := flags.Int("n", 1, "ask so often")
	domain := flags.String("domain", "assistant", "the `domain` of the policy")
	if err := flags.Parse(args); err != nil {
		return fmt.Errorf("read the flags: %w", err)
	}
	req, err := request(*domain, flags.Args())
	if err != nil {
		return err
	}
	conn, err := grpc.NewClient(*addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return fmt.Errorf("connect to %s: %w", *addr, err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client := rls.NewRateLimitServiceClient(conn)
	for i := range *calls {
		resp, err := client.ShouldRateLimit(ctx, req)
		if err != nil {
			return fmt.Errorf("ask %s: %w", *addr, err)
		}
		if _, err := fmt.Fprintf(out, "%2d %s\n", i+1, describe(resp)); err != nil {
			return fmt.Errorf("print: %w", err)
		}
	}
	return nil
}

// request makes a call with one descriptor of the entries.
func request(domain string, entries []string) (*rls.RateLimitRequest, error) {
	descriptor := &rlcommon.RateLimitDescriptor{}
	for _, entry := range entries {
		key, value, found := strings.Cut(entry, "=")
		if !found {
			return nil, fmt.Errorf("%q is not an entry: write KEY=VALUE, as user_id=alice", entry)
		}
		descriptor.Entries = append(descriptor.Entries, &rlcommon.RateLimitDescriptor_Entry{Key: key, Value: value})
	}
	if len(descriptor.GetEntries()) == 0 {
		return nil, errNoEntry
	}
	return &rls.RateLimitRequest{Domain: domain, Descriptors: []*rlcommon.RateLimitDescriptor{descriptor}}, nil
}

// describe says an answer in one line: the verdict, the limit that is nearest to denying, and what remains of it.
func describe(resp *rls.RateLimitResponse) string {
	line := resp.GetOverallCode().String()
	for _, status := range resp.GetStatuses() {
		limit := status.GetCurrentLimit()
		if limit == nil {
			continue // no limit applies, or the store could not be asked
		}
		line = fmt.Sprintf("%-10s  limit %q: %d of %d left",
			line, limit.GetName(), status.GetLimitRemaining(), limit.GetRequestsPerUnit())
	}
	return line
}
