// Package admin translates ratelimitd.admin.v1 to the engine's administration: the overrides and the hits of single
// subjects. It decides nothing itself, and does not ask who calls: who may reach it is a matter of its address.
package admin

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/store"
	"github.com/ratelimitd/ratelimitd/internal/telemetry"
	adminv1 "github.com/ratelimitd/ratelimitd/pkg/api/ratelimitd/admin/v1"
)

// Bounds of a request.
const (
	maxKind      = 32    // bytes
	maxID        = 65536 // bytes
	maxPlan      = 64    // bytes
	maxLimits    = 49    // 16 each of requests, tokens and USD, and one of concurrent
	maxLimitText = 128   // bytes; with it, the largest list is within what a policy reads of an override
)

// Engine is what is administered. It errs with engine.ErrBadCall for what the policy in force does not know, and with
// the store's errors.
type Engine interface {
	// SetOverride stores a subject's override, as policy.Snapshot.ParseOverride reads it, and returns its version; an
	// empty value removes it.
	SetOverride(ctx context.Context, s store.Subject, value string) (version int64, err error)
	// Override returns a subject's override; 0 and "" if there is none.
	Override(ctx context.Context, s store.Subject) (version int64, value string, err error)
	// Reset forgets a subject's hits.
	Reset(ctx context.Context, s store.Subject) error
}

// Server is a ratelimitd.admin.v1.AdminService. It is safe for concurrent use.
type Server struct {
	adminv1.UnimplementedAdminServiceServer

	engine Engine
	log    *telemetry.Log
}

// New returns a server over an engine. What is not a caller's fault is told to the log.
func New(e Engine, log *telemetry.Log) *Server { return &Server{engine: e, log: log} }

// override is an override as it is stored.
type override struct {
	Plan   string   `json:"plan,omitempty"`
	Limits []string `json:"limits,omitempty"`
}

// SetOverride gives a subject its own plan or limits.
func (s *Server) SetOverride(
	ctx context.Context, req *adminv1.SetOverrideRequest,
) (*adminv1.SetOverrideResponse, error) {
	subject, err := readSubject(req.GetSubject())
	if err != nil {
		return nil, s.translate(ctx, err)
	}
	value, err := readOverride(req)
	if err != nil {
		return nil, s.translate(ctx, err)
	}
	version, err := s.engine.SetOverride(ctx, subject, value)
	if err != nil {
		return nil, s.translate(ctx, err)
	}
	return &adminv1.SetOverrideResponse{Version: version}, nil
}

// GetOverride returns a subject's override.
func (s *Server) GetOverride(
	ctx context.Context, req *adminv1.GetOverrideRequest,
) (*adminv1.GetOverrideResponse, error) {
	subject, err := readSubject(req.GetSubject())
	if err != nil {
		return nil, s.translate(ctx, err)
	}
	version, value, err := s.engine.Override(ctx, subject)
	if err != nil {
		return nil, s.translate(ctx, err)
	}
	if value == "" {
		return nil, s.translate(ctx, errNoOverride)
	}
	var o override
	if err := json.Unmarshal([]byte(value), &o); err != nil {
		return nil, s.translate(ctx, fmt.Errorf("the override of version %d of a subject of tier %q: %w: %w",
			version, subject.Kind, store.ErrCorrupt, err))
	}
	resp := &adminv1.GetOverrideResponse{Version: version}
	if o.Plan != "" {
		resp.Override = &adminv1.GetOverrideResponse_Plan{Plan: o.Plan}
	} else {
		resp.Override = &adminv1.GetOverrideResponse_Limits{Limits: &adminv1.LimitList{Limits: o.Limits}}
	}
	return resp, nil
}

// DeleteOverride removes a subject's override.
func (s *Server) DeleteOverride(
	ctx context.Context, req *adminv1.DeleteOverrideRequest,
) (*adminv1.DeleteOverrideResponse, error) {
	subject, err := readSubject(req.GetSubject())
	if err != nil {
		return nil, s.translate(ctx, err)
	}
	if _, err := s.engine.SetOverride(ctx, subject, ""); err != nil {
		return nil, s.translate(ctx, err)
	}
	return &adminv1.DeleteOverrideResponse{}, nil
}

// ResetSubject forgets a subject's hits.
func (s *Server) ResetSubject(
	ctx context.Context, req *adminv1.ResetSubjectRequest,
) (*adminv1.ResetSubjectResponse, error) {
	subject, err := readSubject(req.GetSubject())
	if err != nil {
		return nil, s.translate(ctx, err)
	}
	if err := s.engine.Reset(ctx, subject); err != nil {
		return nil, s.translate(ctx, err)
	}
	return &adminv1.ResetSubjectResponse{}, nil
}

func readSubject(s *adminv1.Subject) (store.Subject, error) {
	kind, id := s.GetKind(), s.GetId()
	switch {
	case kind == "":
		return store.Subject{}, requestError("subject.kind is empty: name a subject of the policy, or global")
	case len(kind) > maxKind:
		return store.Subject{}, requestError(fmt.Sprintf("subject.kind is longer than %d bytes", maxKind))
	case len(id) > maxID:
		return store.Subject{}, requestError(fmt.Sprintf("subject.id is longer than %d bytes", maxID))
	case kind == policy.GlobalTier && id != "":
		return store.Subject{}, requestError("subject.id is set, but there is only one global subject: leave it empty")
	case kind != policy.GlobalTier && id == "":
		return store.Subject{}, requestError("subject.id is empty: name whose override or hits are meant")
	default:
		return store.Subject{Kind: kind, ID: id}, nil
	}
}

// readOverride returns the override of a request as it is stored.
func readOverride(req *adminv1.SetOverrideRequest) (string, error) {
	var o override
	switch set := req.GetOverride().(type) {
	case *adminv1.SetOverrideRequest_Plan:
		if set.Plan == "" || len(set.Plan) > maxPlan {
			return "", requestError(fmt.Sprintf("plan has %d bytes: name a plan of the policy, of 1 to %d bytes", len(set.Plan), maxPlan))
		}
		o.Plan = set.Plan
	case *adminv1.SetOverrideRequest_Limits:
		o.Limits = set.Limits.GetLimits()
		if n := len(o.Limits); n == 0 || n > maxLimits {
			return "", requestError(fmt.Sprintf("limits has %d limits: write 1 to %d, as 10/minute", n, maxLimits))
		}
		for i, text := range o.Limits {
			if len(text) > maxLimitText {
				return "", requestError(fmt.Sprintf("limits[%d] is longer than %d bytes", i, maxLimitText))
			}
		}
	default:
		return "", requestError("neither plan nor limits is set: set one of them, or call DeleteOverride")
	}
	value, err := json.Marshal(o)
	if err != nil {
		return "", fmt.Errorf("write the override: %w", err)
	}
	return string(value), nil
}
