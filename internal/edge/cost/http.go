package cost

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"go.uber.org/zap"

	"github.com/ratelimitd/ratelimitd/internal/engine"
	"github.com/ratelimitd/ratelimitd/internal/telemetry"
	costv1 "github.com/ratelimitd/ratelimitd/pkg/api/ratelimitd/cost/v1"
)

// The paths that are served.
const (
	pathAPI          = "/v1/" // and what is below it
	pathReservations = "/v1/reservations"
	pathRecords      = "/v1/records"
	pathRecordBatch  = "/v1/records:batch"
	pathUsage        = "/v1/usage"
	pathOpenAPI      = "/openapi.yaml"
)

// Bounds of calls over HTTP.
const (
	// MaxBody bounds a call's body, and MaxBatchBody that of a RecordBatch, bytes.
	MaxBody      = 64 << 10
	MaxBatchBody = 1 << 20
	// maxReserves is how many reservations may be made at once, and maxOthers how many other calls: a crowd that waits for
	// slots must not keep those out that would free them.
	maxReserves, maxOthers = 512, 256
	// callTimeout is what a call may take, but for one that waits for a slot.
	callTimeout = 30 * time.Second
	// sendTimeout is what a caller has to take the answer.
	sendTimeout = 10 * time.Second
)

//go:embed openapi/cost.swagger.yaml
var openAPI []byte

// api answers the service's calls as JSON over HTTP.
type api struct {
	server   *Server
	gateway  http.Handler
	reserves chan struct{} // holds one for each reservation that is being made
	others   chan struct{} // holds one for each other call
}

// Patterns are what the handler of NewHandler answers, as http.ServeMux reads them.
func Patterns() []string { return []string{pathAPI, "GET " + pathOpenAPI} }

// NewHandler returns the handler of Patterns: a server's calls as JSON, and the file that describes them. Requests that a
// browser sends for a page from elsewhere are refused, since nobody is asked who is calling.
func NewHandler(s *Server) (http.Handler, error) {
	a := &api{
		server:   s,
		reserves: make(chan struct{}, maxReserves),
		others:   make(chan struct{}, maxOthers),
	}
	gateway := runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, newCodec()),
		runtime.WithErrorHandler(writeError),
		runtime.WithRoutingErrorHandler(writeRoutingError),
		runtime.WithIncomingHeaderMatcher(func(string) (string, bool) { return "", false }),
		runtime.WithDisableHTTPMethodOverride(),
		runtime.WithDisablePathLengthFallback(),
		runtime.WithWriteContentLength(),
		runtime.WithMiddlewares(nameSpan),
	)
	if err := costv1.RegisterCostServiceHandlerServer(context.Background(), gateway, s); err != nil {
		return nil, fmt.Errorf("serve the cost API over HTTP: %w", err)
	}
	a.gateway = gateway
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+pathOpenAPI, serveOpenAPI)
	mux.HandleFunc("GET /v1/users/{user_id}/usage", a.userUsage)
	mux.HandleFunc("GET "+pathUsage, a.usage)
	mux.HandleFunc("POST "+pathReservations, func(w http.ResponseWriter, r *http.Request) {
		a.call(w, r, a.reserves, MaxBody, engine.MaxWait+callTimeout)
	})
	mux.HandleFunc("POST "+pathRecords, a.records)
	mux.HandleFunc("POST "+pathRecordBatch, a.records)
	mux.HandleFunc(pathAPI, func(w http.ResponseWriter, r *http.Request) {
		a.call(w, r, a.others, MaxBody, callTimeout)
	})
	foreign := http.NewCrossOriginProtection()
	foreign.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		newProblem(http.StatusForbidden, "CROSS_ORIGIN", "a page from elsewhere may not call this service").write(w)
	}))
	return foreign.Handler(mux), nil
}

// nameSpan names the span of a call, if it is in one, by its route.
func nameSpan(next runtime.HandlerFunc) runtime.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request, params map[string]string) {
		if pattern, ok := runtime.HTTPPattern(r.Context()); ok {
			telemetry.NameRoute(r.Context(), r.Method, pattern)
		}
		next(w, r, params)
	}
}

func serveOpenAPI(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/yaml")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(openAPI) // a caller that has gone needs no answer
}

// userUsage is usage of the user that the path names. The user goes on in the query, where any id can be written: in a
// path an escaped slash would be taken for a slash.
func (a *api) userUsage(w http.ResponseWriter, r *http.Request) {
	asked := r.URL.Query()
	if len(asked) > 0 {
		newProblem(http.StatusBadRequest, string(engine.InvalidArgument), "this path takes no query: it names the user").write(w)
		return
	}
	asked.Set("user_id", r.PathValue("user_id"))
	a.usage(w, redirected(r, pathUsage, asked))
}

// usage refuses what it does not know in the query: a misspelled user would else be answered with the system's usage.
func (a *api) usage(w http.ResponseWriter, r *http.Request) {
	asked := r.URL.Query()
	for name, values := range asked {
		if (name != "user_id" && name != "userId") || len(values) != 1 {
			newProblem(http.StatusBadRequest, string(engine.InvalidArgument),
				"the query may hold user_id, once, and nothing else").write(w)
			return
		}
	}
	a.call(w, r, a.others, MaxBody, callTimeout)
}

// records is Record, or RecordBatch if the body has the member "records".
func (a *api) records(w http.ResponseWriter, r *http.Request) {
	a.call(w, r, a.others, MaxBatchBody, callTimeout)
}

// isBatch tells whether a body is that of a RecordBatch.
func isBatch(body []byte) bool {
	var members struct {
		Records json.RawMessage `json:"records"`
	}
	return json.Unmarshal(body, &members) == nil && members.Records != nil
}

// redirected is a request for another path.
func redirected(r *http.Request, path string, query url.Values) *http.Request {
	other := r.WithContext(r.Context()) // a shallow copy
	other.URL = &url.URL{Path: path, RawQuery: query.Encode()}
	return other
}

// call answers one call: within a place, a body and a time that are bounded.
func (a *api) call(w http.ResponseWriter, r *http.Request, places chan struct{}, maxBody int64, timeout time.Duration) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if a.server.refuses() {
		readProblem(a.server.translate(errStopping)).write(w)
		return
	}
	select {
	case places <- struct{}{}:
		defer func() { <-places }()
	default:
		busy(cap(places)).write(w)
		return
	}
	answer := &answerWriter{ResponseWriter: w, control: http.NewResponseController(w)}
	defer a.catch(answer, r)
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		unreadable(err).write(answer)
		return
	}
	if r.URL.Path == pathRecords {
		switch {
		case isBatch(body):
			r = redirected(r, pathRecordBatch, nil)
		case len(body) > MaxBody:
			tooLarge(MaxBody).write(answer)
			return
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	defer cancel()
	r = r.WithContext(ctx)
	r.Body = io.NopCloser(bytes.NewReader(body))
	a.gateway.ServeHTTP(answer, r)
}

// catch answers a call whose handler panics as an internal error.
func (a *api) catch(w *answerWriter, r *http.Request) {
	caught := recover()
	if caught == nil {
		return
	}
	a.server.metrics.Panics.Inc()
	a.server.log.Error("a handler panicked", zap.String(telemetry.FieldMethod, r.Method+" "+r.Pattern),
		zap.Any("panic", caught), zap.ByteString(telemetry.FieldStack, debug.Stack()), telemetry.InTrace(r.Context()))
	if !w.started {
		newProblem(http.StatusInternalServerError, string(reasonInternal), "internal error").write(w)
	}
}

// answerWriter gives an answer its own time from its begin on. The server's write timeout counts from the request's, and a wait
// for a slot may last longer.
type answerWriter struct {
	http.ResponseWriter

	control *http.ResponseController
	started bool
}

// Unwrap is what http.ResponseController asks for.
func (w *answerWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader begins the answer.
func (w *answerWriter) WriteHeader(code int) {
	w.begin()
	w.ResponseWriter.WriteHeader(code)
}

// Write writes a part of the answer.
func (w *answerWriter) Write(b []byte) (int, error) {
	w.begin()
	return w.ResponseWriter.Write(b) //nolint:wrapcheck // a writer's error is the writer's
}

func (w *answerWriter) begin() {
	if !w.started {
		w.started = true
		_ = w.control.SetWriteDeadline(time.Now().Add(sendTimeout)) // there is none to set in a test without a server
	}
}

func busy(most int) *problem {
	p := newProblem(http.StatusServiceUnavailable, string(reasonBusy),
		fmt.Sprintf("%d calls of this kind are being answered, and no more may be at once: ask again after Retry-After", most))
	p.RetryAfter = new(int64)
	*p.RetryAfter = int64(retrySoon / time.Second)
	return p
}

func unreadable(err error) *problem {
	if large, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return tooLarge(large.Limit)
	}
	return newProblem(http.StatusBadRequest, string(engine.InvalidArgument), "the body cannot be read: "+err.Error())
}

func tooLarge(most int64) *problem {
	return newProblem(http.StatusRequestEntityTooLarge, "BODY_TOO_LARGE",
		fmt.Sprintf("the body is larger than %d bytes: send less, or several calls", most))
}

// writeError answers with a problem document of an error of the service or of the gateway.
func writeError(
	_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, _ *http.Request, err error,
) {
	readProblem(err).write(w)
}

// writeRoutingError answers a request for a path or a method that is not served.
func writeRoutingError(
	_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, code int,
) {
	switch code {
	case http.StatusMethodNotAllowed:
		allow := http.MethodPost
		if strings.HasSuffix(r.URL.Path, "/usage") {
			allow = http.MethodGet
		}
		w.Header().Set("Allow", allow)
		newProblem(code, "METHOD_NOT_ALLOWED", "this path is called with "+allow).write(w)
	case http.StatusNotFound:
		newProblem(code, "NOT_FOUND", "no call has this path: "+pathOpenAPI+" lists them").write(w)
	default:
		newProblem(code, string(engine.InvalidArgument), "the path cannot be read").write(w)
	}
}
