package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	costv1 "github.com/ratelimitd/ratelimitd/pkg/api/ratelimitd/cost/v1"
)

// bareCosts answers with fixed messages of the size of ratelimitd's, and keeps nothing.
type bareCosts struct {
	costv1.UnimplementedCostServiceServer

	grant   *costv1.ReserveResponse
	receipt *costv1.SettleResponse
	usage   *costv1.GetUsageResponse
}

// bareTokenBytes is how long the id of a reservation of the benchmark's is.
const bareTokenBytes = 161

// newBareCosts makes the answers.
func newBareCosts() *bareCosts {
	const lease = 30 * time.Second

	now := time.Now()
	user := []*costv1.LimitState{
		bareLimit("user", "user-000000", "minute", "requests", time.Minute, now),
		bareLimit("user", "user-000000", "hour", "requests", time.Hour, now),
		bareLimit("user", "user-000000", "day", "requests", day, now),
		bareLimit("user", "user-000000", "day", "usd", day, now),
	}
	global := []*costv1.LimitState{
		bareLimit("global", "", "hour", "requests", time.Hour, now),
		bareLimit("global", "", "day", "usd", day, now),
		bareLimit("global", "", "concurrent", "concurrent", 0, now),
	}

	return &bareCosts{
		grant: &costv1.ReserveResponse{
			ReservationId: strings.Repeat("r", bareTokenBytes), State: "ACTIVE", HeldUsd: "0.0003536",
			GrantedOutputTokens: pairMaxOutput, ExpiresAt: timestamppb.New(now.Add(lease)),
			HeartbeatInterval: durationpb.New(lease / 3), Limits: slices.Concat(user, global), //nolint:mnd // a third
		},
		receipt: &costv1.SettleResponse{
			CostUsd: "0.0002606", Breakdown: &costv1.Breakdown{
				InputUsd: "0.0001736", CacheReadUsd: "0", CacheWriteUsd: "0", OutputUsd: "0.000087", ReasoningUsd: "0",
			},
			ReleasedUsd: "0.000093", OverageUsd: "0", SavedUsd: "0", State: "SETTLED",
		},
		usage: &costv1.GetUsageResponse{UserId: "user-000000", Limits: user},
	}
}

// bareLimit is a limit as ratelimitd tells it, with numbers of nothing.
func bareLimit(tier, id, name, unit string, period time.Duration, now time.Time) *costv1.LimitState {
	state := &costv1.LimitState{
		Tier: tier, Id: id, Plan: "default", Name: name, Unit: unit, Limit: "4000", Used: "12", Held: "0", Spent: "12",
		Remaining: "3988", Description: "4000 " + unit + " per " + name,
	}

	if unit == "usd" {
		state.Used, state.Held, state.Spent, state.Remaining = "0.0025624", "0.0003536", "0.0022088", "3999.9974376"
	}

	if period > 0 {
		state.Period, state.ResetsAt = durationpb.New(period), timestamppb.New(now.Add(period))
	}

	return state
}

// Reserve answers that a reservation is held.
func (b *bareCosts) Reserve(context.Context, *costv1.ReserveRequest) (*costv1.ReserveResponse, error) {
	return b.grant, nil
}

// Settle answers that it is settled.
func (b *bareCosts) Settle(context.Context, *costv1.SettleRequest) (*costv1.SettleResponse, error) {
	return b.receipt, nil
}

// GetUsage answers how limits stand.
func (b *bareCosts) GetUsage(context.Context, *costv1.GetUsageRequest) (*costv1.GetUsageResponse, error) {
	return b.usage, nil
}
