package cost

import (
	"context"
	"fmt"

	"github.com/ratelimitd/ratelimitd/internal/engine"
	"github.com/ratelimitd/ratelimitd/internal/telemetry"
	costv1 "github.com/ratelimitd/ratelimitd/pkg/api/ratelimitd/cost/v1"
)

// RecordBatch books several calls, one after the other. What is wrong with one is in its result. When the store cannot be
// asked the records that are left are not tried: each would wait for it in vain.
func (s *Server) RecordBatch(
	ctx context.Context, req *costv1.RecordBatchRequest,
) (*costv1.RecordBatchResponse, error) {
	records := req.GetRecords()
	if n := len(records); n == 0 || n > MaxRecords {
		return nil, s.translate(badField("records", fmt.Sprintf("has %d records: send 1 to %d", n, MaxRecords)))
	}
	results := make([]*costv1.RecordResult, 0, len(records))
	var lost *costv1.RecordError
	for i := range records {
		if lost != nil {
			results = append(results, failedRecord(lost))
			continue
		}
		one, end := telemetry.Step(ctx, "record")
		resp, err := s.record(one, records[i])
		end()
		if ctx.Err() != nil {
			return nil, s.translate(context.Cause(ctx))
		}
		if err == nil {
			results = append(results, &costv1.RecordResult{Result: &costv1.RecordResult_Response{Response: resp}})
			continue
		}
		bad := s.recordError(err)
		results = append(results, failedRecord(bad))
		if bad.GetReason() == string(engine.StoreUnavailable) {
			lost = &costv1.RecordError{
				Reason:  bad.GetReason(),
				Message: "not tried, since the store could not be asked for a record before this one: send it again",
			}
		}
	}
	return &costv1.RecordBatchResponse{Results: results}, nil
}

func failedRecord(e *costv1.RecordError) *costv1.RecordResult {
	return &costv1.RecordResult{Result: &costv1.RecordResult_Error{Error: e}}
}

// recordError is an error as one record of a batch tells it.
func (s *Server) recordError(err error) *costv1.RecordError {
	told := readProblem(s.translate(err))
	return &costv1.RecordError{Reason: told.Reason, Message: told.Detail, Field: told.Field}
}
