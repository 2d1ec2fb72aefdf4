package httpedge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ratelimitd/ratelimitd/internal/engine"
	"github.com/ratelimitd/ratelimitd/internal/policy"
	"github.com/ratelimitd/ratelimitd/internal/store"
	"github.com/ratelimitd/ratelimitd/internal/telemetry"
)

var noon = time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)

// fakeEngine answers with what it is given and keeps the user it was asked for.
type fakeEngine struct {
	user, global engine.TierUsage
	err          error
	asked        string
}

func (f *fakeEngine) Usage(_ context.Context, id string) (user, global engine.TierUsage, err error) {
	f.asked = id
	return f.user, f.global, f.err
}

func (f *fakeEngine) StoreErr(context.Context) error { return f.err }

func usage(name string, unit store.Unit, used, limit int64, period time.Duration) engine.LimitState {
	u := engine.LimitState{Limit: policy.Limit{Name: name, Unit: unit, Max: limit, Period: period}, Used: used}
	if used > 0 {
		u.Resets = noon.Add(1499*time.Millisecond + time.Microsecond) // told rounded up
	}
	return u
}

func get(t *testing.T, opt Options, method, target string, header http.Header) *httptest.ResponseRecorder {
	t.Helper()
	reg := prometheus.NewRegistry()
	opt.Metrics, opt.Gatherer = telemetry.NewMetrics(reg), reg
	opt.Now = func() time.Time { return noon }
	if opt.Ready == nil {
		opt.Ready = func() bool { return true }
	}
	req := httptest.NewRequestWithContext(t.Context(), method, target, nil)
	maps.Copy(req.Header, header)
	rec := httptest.NewRecorder()
	NewHandler(opt).ServeHTTP(rec, req)
	return rec
}

func TestStats(t *testing.T) {
	const day = 24 * time.Hour
	slots := usage("concurrent", store.Concurrent, 0, 100, 0)
	fake := &fakeEngine{
		user: engine.TierUsage{
			Requests: []engine.LimitState{
				usage("minute", store.Requests, 3, 10, time.Minute),
				usage("hour", store.Requests, 120, 100, time.Hour),
				usage("day", store.Requests, 0, 500, day),
			},
			USD: []engine.LimitState{
				usage("hour", store.USD, 1, 2, time.Hour),
				usage("day", store.USD, 520_000_000, 5_000_000_000, day),
			},
		},
		global: engine.TierUsage{
			Requests:   []engine.LimitState{usage("hour", store.Requests, 3, 1000, time.Hour)},
			Concurrent: &slots,
			USD:        []engine.LimitState{usage("90s", store.USD, 260_600, 100_000_000_000, 90*time.Second)},
		},
	}
	rec := get(t, Options{Engine: fake}, http.MethodGet, PathStats+"?user_id=123", nil)
	const want = `{"user_id":"123",` +
		`"limits":{"minute":{"current":3,"limit":10,"remaining":7,"resets_at":"2030-01-02T12:00:01.500Z"},` +
		`"hour":{"current":120,"limit":100,"remaining":0,"resets_at":"2030-01-02T12:00:01.500Z"},` +
		`"day":{"current":0,"limit":500,"remaining":500,"resets_at":"2030-01-02T12:00:00.000Z"}},` +
		`"cost":{"today":0.52,"limit":5,"remaining":4.48,"resets_at":"2030-01-02T12:00:01.500Z"},` +
		`"global":{"limits":{"hour":{"current":3,"limit":1000,"remaining":997,"resets_at":"2030-01-02T12:00:01.500Z"}},` +
		`"concurrent":{"current":0,"limit":100,"remaining":100},` +
		`"cost":{"today":0.0002606,"limit":100,"remaining":99.9997394,"resets_at":"2030-01-02T12:00:01.500Z"}}}` + "\n"
	if rec.Code != http.StatusOK || rec.Body.String() != want {
		t.Errorf("status %d, body\n%s\nwant\n%s", rec.Code, rec.Body, want)
	}
	if got := rec.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("content type %q, want application/json", got)
	}
}

func TestTheCostOfTodayIsThatOfTheCalendarsDay(t *testing.T) {
	const day = 24 * time.Hour
	calendar := usage("day", store.USD, 3_000_000_000, 5_000_000_000, 0)
	calendar.Limit.Calendar = store.NewCalendar(store.CalendarDay, time.UTC)
	calendar.Limit.Period = calendar.Limit.Calendar.Longest()
	hour, sliding := usage("hour", store.USD, 1_000_000_000, 5_000_000_000, time.Hour), usage("24h", store.USD, 2_000_000_000, 5_000_000_000, day)
	for _, tc := range []struct {
		name  string
		usd   []engine.LimitState
		today string
	}{
		{"the calendar's day", []engine.LimitState{hour, sliding, calendar}, "3"},
		{"any day", []engine.LimitState{hour, sliding}, "2"},
		{"the shortest window", []engine.LimitState{hour}, "1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			fake := &fakeEngine{user: engine.TierUsage{USD: tc.usd}}
			rec := get(t, Options{Engine: fake}, http.MethodGet, PathStats+"?user_id=1", nil)
			if want := `"cost":{"today":` + tc.today + `,`; !strings.Contains(rec.Body.String(), want) {
				t.Errorf("the answer is %s, want %s", rec.Body, want)
			}
		})
	}
}

func TestTheAPIHasItsPaths(t *testing.T) {
	api := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(r.Method + " " + r.URL.EscapedPath()))
	})
	for _, tc := range []struct {
		method, path string
		status       int
	}{
		{http.MethodPost, "/v1/reservations", http.StatusOK},
		{http.MethodGet, "/v1/users/a%2Fb/usage", http.StatusOK},
		{http.MethodGet, "/openapi.yaml", http.StatusOK},
		{http.MethodPost, "/openapi.yaml", http.StatusMethodNotAllowed},
	} {
		rec := get(t, Options{Engine: &fakeEngine{}, API: api, APIPatterns: []string{"/v1/", "GET /openapi.yaml"}}, tc.method, tc.path, nil)
		if rec.Code != tc.status || (tc.status == http.StatusOK && rec.Body.String() != tc.method+" "+tc.path) {
			t.Errorf("%s %s is answered %d: %s", tc.method, tc.path, rec.Code, rec.Body)
		}
	}
	if rec := get(t, Options{Engine: &fakeEngine{}}, http.MethodPost, "/v1/reservations", nil); rec.Code != http.StatusNotFound {
		t.Errorf("without an API its path is answered %d, want 404", rec.Code)
	}
}

func TestWhoIsAskedFor(t *testing.T) {
	for _, tc := range []struct {
		name, target, header string
		status               int
		asked                string
	}{
		{"by query", PathStats + "?user_id=a%20b", "", http.StatusOK, "a b"},
		{"by header", PathStats, "123", http.StatusOK, "123"},
		{"the query wins", PathStats + "?user_id=1", "2", http.StatusOK, "1"},
		{"by nothing", PathStats, "", http.StatusBadRequest, ""},
		{"by an empty name", PathStats + "?user_id=", "", http.StatusBadRequest, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			fake := &fakeEngine{}
			header := http.Header{}
			if tc.header != "" {
				header.Set("x-user-id", tc.header)
			}
			rec := get(t, Options{Engine: fake}, http.MethodGet, tc.target, header)
			if rec.Code != tc.status || fake.asked != tc.asked {
				t.Errorf("status %d for user %q, want %d for %q", rec.Code, fake.asked, tc.status, tc.asked)
			}
			if tc.status == http.StatusBadRequest && !strings.Contains(rec.Body.String(), "user_id") {
				t.Errorf("the body does not say what to send: %s", rec.Body)
			}
		})
	}
}

func TestStatsWithoutTheStoreIsAProblemDocument(t *testing.T) {
	for _, tc := range []struct {
		err    error
		status int
	}{
		{fmt.Errorf("read usage: %w", store.ErrUnavailable), http.StatusServiceUnavailable},
		{fmt.Errorf("user id too long: %w", engine.ErrBadCall), http.StatusBadRequest},
	} {
		rec := get(t, Options{Engine: &fakeEngine{err: tc.err}}, http.MethodGet, PathStats+"?user_id=1", nil)
		var p problem
		if err := json.Unmarshal(rec.Body.Bytes(), &p); err != nil {
			t.Fatalf("the body %q is no JSON: %v", rec.Body, err)
		}
		if rec.Code != tc.status || p.Status != tc.status || p.Detail == "" || p.Title == "" || p.Type == "" {
			t.Errorf("%v: status %d with %+v, want %d", tc.err, rec.Code, p, tc.status)
		}
		if got := rec.Header().Get("Content-Type"); got != "application/problem+json" {
			t.Errorf("content type %q, want application/problem+json", got)
		}
	}
}

// hangingEngine answers nobody before release is closed or the question's own time is up.
type hangingEngine struct {
	fakeEngine

	asked   chan struct{} // gets one for each question
	release chan struct{}
}

func (h *hangingEngine) Usage(ctx context.Context, _ string) (user, global engine.TierUsage, err error) {
	h.asked <- struct{}{}
	select {
	case <-h.release:
	case <-ctx.Done():
		err = ctx.Err()
	}
	return engine.TierUsage{}, engine.TierUsage{}, err
}

func TestMoreQuestionsThanMayBeAtOnceAreTurnedAway(t *testing.T) {
	slow := &hangingEngine{asked: make(chan struct{}, maxQuestions+2), release: make(chan struct{})}
	reg := prometheus.NewRegistry()
	h := NewHandler(Options{Engine: slow, Metrics: telemetry.NewMetrics(reg), Gatherer: reg})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ask := func() *httptest.ResponseRecorder {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequestWithContext(ctx, http.MethodGet, PathStats+"?user_id=1", nil))
		return rec
	}
	var questions sync.WaitGroup
	for range maxQuestions {
		questions.Go(func() {
			if rec := ask(); rec.Code != http.StatusOK {
				t.Errorf("one of %d questions is answered %d, want 200: %s", maxQuestions, rec.Code, rec.Body)
			}
		})
		<-slow.asked
	}
	rec := ask()
	var p problem
	if err := json.Unmarshal(rec.Body.Bytes(), &p); err != nil {
		t.Fatalf("the body %q is no JSON: %v", rec.Body, err)
	}
	if rec.Code != http.StatusServiceUnavailable || p.Type != problemBusy || rec.Header().Get("Retry-After") != "1" {
		t.Errorf("one more is answered %d with %+v and Retry-After %q, want 503 by %s and 1",
			rec.Code, p, rec.Header().Get("Retry-After"), problemBusy)
	}
	close(slow.release)
	questions.Wait()
	if rec := ask(); rec.Code != http.StatusOK {
		t.Errorf("after the others were answered the status is %d, want 200: %s", rec.Code, rec.Body)
	}
}

func TestHealth(t *testing.T) {
	for _, tc := range []struct {
		name     string
		embedded bool
		err      error
		want     string
	}{
		{
			"Redis answers", false, nil,
			`{"status":"healthy","checks":{"assistant_service":"available","redis":"connected"}}`,
		},
		{
			"Redis is away", false, errors.New("dial tcp: refused"),
			`{"status":"degraded","checks":{"assistant_service":"available","redis":"unavailable"},"detail":"dial tcp: refused"}`,
		},
		{
			"the store is embedded", true, nil,
			`{"status":"healthy","checks":{"assistant_service":"available","redis":"embedded"}}`,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			opt := Options{Engine: &fakeEngine{err: tc.err}, Embedded: tc.embedded}
			rec := get(t, opt, http.MethodGet, PathHealth, nil)
			if rec.Code != http.StatusOK || strings.TrimSpace(rec.Body.String()) != tc.want {
				t.Errorf("status %d, body %s, want 200 and %s", rec.Code, rec.Body, tc.want)
			}
		})
	}
}

func TestAliveReadyAndMetrics(t *testing.T) {
	draining := func() bool { return false }
	for _, tc := range []struct {
		name, method, path string
		ready              func() bool
		status             int
		contains           string
	}{
		{"alive", http.MethodGet, PathAlive, nil, http.StatusOK, "ok"},
		{"alive while draining", http.MethodGet, PathAlive, draining, http.StatusOK, "ok"},
		{"ready", http.MethodGet, PathReady, nil, http.StatusOK, "ready"},
		{"not ready while draining", http.MethodGet, PathReady, draining, http.StatusServiceUnavailable, "not serving"},
		{"metrics", http.MethodGet, PathMetrics, nil, http.StatusOK, "ratelimitd_enabled 1"},
		{"a HEAD for a probe", http.MethodHead, PathReady, nil, http.StatusOK, ""},
		{"another method", http.MethodPost, PathStats, nil, http.StatusMethodNotAllowed, ""},
		{"another path", http.MethodGet, "/nothing", nil, http.StatusNotFound, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rec := get(t, Options{Engine: &fakeEngine{}, Ready: tc.ready}, tc.method, tc.path, nil)
			if rec.Code != tc.status || !strings.Contains(rec.Body.String(), tc.contains) {
				t.Errorf("status %d, body %.80q, want %d with %q", rec.Code, rec.Body, tc.status, tc.contains)
			}
		})
	}
}
