package main

import (
	"context"
	"fmt"

	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"

	costv1 "github.com/ratelimitd/ratelimitd/pkg/api/ratelimitd/cost/v1"
)

// asker asks a server one thing at a time, in one shape.
type asker interface {
	// ask asks once for a user. It errs when an answer is not what it must be.
	ask(user string) error
	// addTo adds what only this shape has seen to a tally.
	addTo(t *tally)
}

// newAsker returns the asker of a job's shape over a connection. Its number tells it from the other askers of the process.
func newAsker(j *job, conn *grpc.ClientConn, process string, number int) (asker, error) {
	switch j.Shape {
	case pairShape:
		return newPairAsker(costv1.NewCostServiceClient(conn), j.Expect, fmt.Sprintf("%s-%d-", process, number), number), nil
	case usageShape:
		return &usageAsker{client: costv1.NewCostServiceClient(conn), expect: j.Expect}, nil
	case oneDescriptor, fourDescriptors:
	}

	ask, err := newQuestion(j.Shape)
	if err != nil {
		return nil, err
	}

	return &decisionAsker{client: rlsv3.NewRateLimitServiceClient(conn), question: ask, expect: j.Expect}, nil
}

// decisionAsker asks ShouldRateLimit.
type decisionAsker struct {
	client   rlsv3.RateLimitServiceClient
	question *question
	expect   verdict
}

func (a *decisionAsker) ask(user string) error {
	resp, err := a.client.ShouldRateLimit(context.Background(), a.question.of(user))
	if err != nil {
		return fmt.Errorf("ShouldRateLimit: %w", err)
	}

	return a.expect.check(resp, len(a.question.ids))
}

func (*decisionAsker) addTo(*tally) {}
