package cost

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/ratelimitd/ratelimitd/internal/budget"
	"github.com/ratelimitd/ratelimitd/internal/engine"
)

// serve serves an engine on a free port; change may set the server's timeouts.
func serve(t *testing.T, e Engine, change func(*http.Server)) (url string, s *Server) {
	t.Helper()
	s = newServer(t, e)
	h, err := NewHandler(s)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(h)
	if change != nil {
		change(server.Config)
	}
	server.Start()
	t.Cleanup(server.Close)
	return server.URL, s
}

// answer is what came back of one request.
type answer struct {
	status int
	header http.Header
	body   string
}

func send(t *testing.T, method, url, body string, headers ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	return answer{status: resp.StatusCode, header: resp.Header, body: string(b)}
}

// compact is JSON without the spaces that protojson puts where it likes.
func compact(t *testing.T, text string) string {
	t.Helper()
	var value any
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		t.Fatalf("%q is no JSON: %v", text, err)
	}
	b, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestCallsOverHTTP(t *testing.T) {
	const (
		spend   = `"user_id":"123","plan":"pro","subjects":{"org_id":"acme"},"tags":{"feature":"chat"},"model":"m"`
		receipt = `"breakdown":{"input_usd":"0.0001736","cache_read_usd":"0","cache_write_usd":"0","output_usd":"0.000087","reasoning_usd":"0"},` +
			`"cost_usd":"0.0002606","saved_usd":"0.000000003","duplicate":true,"warnings":[{"code":"USAGE_UNKNOWN","text":"unknown"}]`
		record = `{"idempotency_key":"k","user_id":"1","usage":{"input_tokens":7},"occurred_at":"2030-01-02T12:00:00Z"}`
		denial = `{"reason":"USER_BUDGET_EXHAUSTED","tier":"user","id":"123","name":"day","unit":"usd","limit":"5","used":"4.99",` +
			`"asked":"0.02","retry_after":"7199.999999999s","available_at":"2030-01-02T14:00:00Z",` +
			`"message":"5 USD per day: 4.99 used, 0.02 asked for; it is back at 2030-01-02T14:00:00.000Z, and to retry before that is useless"}`
	)
	spender := engine.Spender{
		UserID: "123", Plan: "pro", Model: "m",
		Subjects: map[string]string{"org_id": "acme"}, Tags: map[string]string{"feature": "chat"},
	}
	booked := &engine.Record{
		Key: "k", Spender: engine.Spender{UserID: "1"}, Usage: budget.Usage{Input: 7}, Occurred: noon,
	}
	for _, tc := range []struct {
		name, method, path, body string
		asked                    any
		want                     string
	}{
		{
			"quote", http.MethodPost, "/v1/quote",
			`{` + spend + `,"input_tokens":868,"max_output_tokens":"145","cached_input_tokens":5,"expected_output_tokens":45}`,
			&engine.QuoteAsk{
				Spender: spender, Ask: engine.Ask{InputTokens: 868, CachedInputTokens: 5, MaxOutputTokens: 145}, ExpectedOutputTokens: 45,
			},
			`{"expected_cost_usd":"0.0002006","maximum_cost_usd":"0.0002606","admitted":false,"binding":` + denial + `,` +
				`"max_output_tokens":"44","limits":[],"warnings":[{"code":"SHADOW_LIMIT","text":"a shadow"}]}`,
		},
		{
			"reserve", http.MethodPost, "/v1/reservations",
			`{"idempotency_key":"k",` + spend + `,"input_tokens":868,"max_cost_usd":"0.01","ttl":"60s","slot":false,"partial":true,"wait_timeout":"1.5s"}`,
			&engine.Reservation{
				Spender: spender, Ask: engine.Ask{InputTokens: 868, MaxCost: 10_000_000}, Key: "k",
				TTL: time.Minute, NoSlot: true, Partial: true, Wait: 1500 * time.Millisecond,
			},
			`{"reservation_id":"AbC-_019","state":"ACTIVE","held_usd":"0.0002606","granted_output_tokens":"145",` +
				`"expires_at":"2030-01-02T12:00:30Z","heartbeat_interval":"10s","limits":[],` +
				`"warnings":[{"code":"PARTIAL","text":"less"}],"duplicate":true}`,
		},
		{
			"names in lowerCamelCase", http.MethodPost, "/v1/reservations",
			`{"idempotencyKey":"k","userId":"1","waitTimeout":"0s"}`,
			&engine.Reservation{Spender: engine.Spender{UserID: "1"}, Key: "k"}, "",
		},
		{
			"extend", http.MethodPost, "/v1/reservations/" + theID + "/extend", `{"ttl":"3600s","max_output_tokens":9}`,
			&engine.Extension{ReservationID: theID, TTL: time.Hour, MaxOutputTokens: 9},
			`{"expires_at":"2030-01-02T12:01:00Z","held_usd":"0.000000001","heartbeat_interval":"20s","must_stop":true,"denial":` + denial + `}`,
		},
		{
			"extend without a body", http.MethodPost, "/v1/reservations/" + theID + "/extend", "",
			&engine.Extension{ReservationID: theID}, "",
		},
		{
			"settle", http.MethodPost, "/v1/reservations/" + theID + "/settle",
			`{"idempotency_key":"k","outcome":"success","usage":{"input_tokens":868,"output_tokens":145}}`,
			&engine.Settlement{
				ReservationID: theID, Outcome: "success", Usage: &budget.Usage{Input: 868, Output: 145},
			},
			`{` + receipt + `,"released_usd":"1","overage_usd":"0.000000002","late":true,"state":"SETTLED"}`,
		},
		{
			"release", http.MethodPost, "/v1/reservations/" + theID + "/release", `{}`,
			theID,
			`{"released_usd":"1","duplicate":true,"late":true,"state":"RELEASED","warnings":[{"code":"USAGE_UNKNOWN","text":"unknown"}]}`,
		},
		{"record", http.MethodPost, "/v1/records", record, booked, `{` + receipt + `}`},
		{
			"a batch of records", http.MethodPost, "/v1/records", `{"records":[` + record + `]}`, booked,
			`{"results":[{"response":{` + receipt + `}}]}`,
		},
		{"a batch by its own path", http.MethodPost, "/v1/records:batch", `{"records":[` + record + `]}`, booked, ""},
		{
			"usage of a user", http.MethodGet, "/v1/users/123/usage", "", "123",
			`{"user_id":"123","limits":[]}`,
		},
		{"usage of a user with any name", http.MethodGet, "/v1/users/a%2Fb%20%252F%3F/usage", "", "a/b %2F?", ""},
		{"usage of the user ..", http.MethodGet, "/v1/users/%2e%2e/usage", "", "..", ""},
		{"usage of a user by query", http.MethodGet, "/v1/usage?user_id=a%2Fb", "", "a/b", ""},
		{"usage of the system", http.MethodGet, "/v1/usage", "", "", `{"user_id":"","limits":[]}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			fake := &fakeEngine{}
			url, _ := serve(t, fake, nil)
			got := send(t, tc.method, url+tc.path, tc.body)
			if got.status != http.StatusOK || !strings.HasSuffix(got.body, "\n") ||
				(tc.want != "" && compact(t, got.body) != compact(t, tc.want)) {
				t.Errorf("%d with\n%s\nwant 200 with\n%s", got.status, got.body, tc.want)
			}
			if !reflect.DeepEqual(fake.asked, tc.asked) {
				t.Errorf("the engine is asked %+v, want %+v", fake.asked, tc.asked)
			}
			if h := got.header; h.Get("Content-Type") != "application/json" || h.Get("Cache-Control") != "no-store" {
				t.Errorf("the headers are %v", h)
			}
		})
	}
}

func TestWhatCannotBeAnsweredIsAProblemDocument(t *testing.T) {
	spaces := func(n int) string { return `{"user_id":"1"` + strings.Repeat(" ", n-len(`{"user_id":"1"}`)) + `}` }
	for _, tc := range []struct {
		name, method, path, body string
		status                   int
		reason, says             string
	}{
		{"an unknown field", "POST", "/v1/quote", `{"user_id":"1","tokens":5}`, 400, "INVALID_ARGUMENT", `unknown field "tokens"`},
		{"another type", "POST", "/v1/quote", `{"user_id":"1","input_tokens":"many"}`, 400, "INVALID_ARGUMENT", "inputTokens"},
		{"a fraction of a token", "POST", "/v1/quote", `{"user_id":"1","input_tokens":1.5}`, 400, "INVALID_ARGUMENT", "inputTokens"},
		{"money as a number", "POST", "/v1/quote", `{"user_id":"1","max_cost_usd":0.5}`, 400, "INVALID_ARGUMENT", "maxCostUsd"},
		{"a field twice", "POST", "/v1/quote", `{"user_id":"1","user_id":"2"}`, 400, "INVALID_ARGUMENT", "user_id"},
		{"two values", "POST", "/v1/quote", `{"user_id":"1"}{}`, 400, "INVALID_ARGUMENT", "unexpected token"},
		{"no JSON", "POST", "/v1/quote", `user_id=1`, 400, "INVALID_ARGUMENT", "not the JSON of this call"},
		{"no UTF-8", "POST", "/v1/quote", "{\"user_id\":\"\xff\"}", 400, "INVALID_ARGUMENT", "UTF-8"},
		{"nothing", "POST", "/v1/quote", "", 400, "INVALID_ARGUMENT", "user_id is empty"},
		{"no UTF-8 in the path", "GET", "/v1/users/%ff/usage", "", 400, "INVALID_ARGUMENT", "user_id"},
		{"NUL in the path", "GET", "/v1/users/%00/usage", "", 400, "INVALID_ARGUMENT", "NUL"},
		{"an id that is none", "POST", "/v1/reservations/a.b/extend", "{}", 400, "INVALID_ARGUMENT", "reservation_id"},
		{"an id in the body that is not the path's", "POST", "/v1/reservations/a/extend", `{"reservation_id":"a.b","ttl":"0s"}`, 400, "INVALID_ARGUMENT", "ttl"},
		{"a query with the path", "GET", "/v1/users/1/usage?user_id=2", "", 400, "INVALID_ARGUMENT", "no query"},
		{"an unknown query", "GET", "/v1/usage?usr_id=2", "", 400, "INVALID_ARGUMENT", "nothing else"},
		{"a user twice", "GET", "/v1/usage?user_id=1&user_id=2", "", 400, "INVALID_ARGUMENT", "once"},
		{"a body of 64 KiB and a byte", "POST", "/v1/quote", spaces(MaxBody + 1), 413, "BODY_TOO_LARGE", "65536"},
		{"a record of 64 KiB and a byte", "POST", "/v1/records", spaces(MaxBody + 1), 413, "BODY_TOO_LARGE", "65536"},
		{"a batch of 1 MiB and a byte", "POST", "/v1/records", spaces(MaxBatchBody + 1), 413, "BODY_TOO_LARGE", "1048576"},
		{"1001 records", "POST", "/v1/records", `{"records":[` + strings.Repeat("{},", 1000) + `{}]}`, 400, "INVALID_ARGUMENT", "1 to 1000"},
		{"an empty batch", "POST", "/v1/records", `{"records":[]}`, 400, "INVALID_ARGUMENT", "1 to 1000"},
		{"another path", "POST", "/v1/reserve", "{}", 404, "NOT_FOUND", "/openapi.yaml"},
		{"GET for POST", "GET", "/v1/quote", "", 405, "METHOD_NOT_ALLOWED", "POST"},
		{"PUT for POST", "PUT", "/v1/reservations", "{}", 405, "METHOD_NOT_ALLOWED", "POST"},
		{"POST for GET", "POST", "/v1/usage", "{}", 405, "METHOD_NOT_ALLOWED", "GET"},
		{"DELETE", "DELETE", "/v1/users/1/usage", "", 405, "METHOD_NOT_ALLOWED", "GET"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			fake := &fakeEngine{}
			url, _ := serve(t, fake, nil)
			got := send(t, tc.method, url+tc.path, tc.body)
			var p problem
			if err := json.Unmarshal([]byte(got.body), &p); err != nil {
				t.Fatalf("%d with the body %q, which is no JSON: %v", got.status, got.body, err)
			}
			if got.status != tc.status || p.Status != tc.status || p.Reason != tc.reason || !strings.Contains(p.Detail, tc.says) ||
				got.header.Get("Content-Type") != "application/problem+json" || strings.Contains(p.Detail, "proto:") {
				t.Errorf("%d with %s, want %d with %s that says %q", got.status, got.body, tc.status, tc.reason, tc.says)
			}
			if allow := got.header.Get("Allow"); (tc.status == http.StatusMethodNotAllowed) != (allow != "") || !strings.Contains(tc.says, allow) {
				t.Errorf("Allow is %q", allow)
			}
			if fake.calls != 0 {
				t.Error("the engine is asked")
			}
		})
	}
}

func TestBodiesUpToTheBoundAreRead(t *testing.T) {
	url, _ := serve(t, &fakeEngine{}, nil)
	pad := func(start, end string, n int) string { return start + strings.Repeat(" ", n-len(start)-len(end)) + end }
	if got := send(t, "POST", url+"/v1/quote", pad(`{"user_id":"1"`, `}`, MaxBody)); got.status != http.StatusOK {
		t.Errorf("64 KiB are answered %d: %s", got.status, got.body)
	}
	if got := send(t, "POST", url+"/v1/records", pad(`{"records":[{}]`, `}`, MaxBatchBody)); got.status != http.StatusOK {
		t.Errorf("a batch of 1 MiB is answered %d: %s", got.status, got.body)
	}
}

// TestAWaitOutlastsTheServersTimeouts gives the server timeouts that are long over when the wait ends.
func TestAWaitOutlastsTheServersTimeouts(t *testing.T) {
	const timeout = 50 * time.Millisecond
	fake := &fakeEngine{do: func(ctx context.Context) error {
		select {
		case <-time.After(5 * timeout):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}}
	url, _ := serve(t, fake, func(s *http.Server) { s.ReadTimeout, s.WriteTimeout = timeout, timeout })
	for range 2 { // the second on the connection of the first
		got := send(t, "POST", url+"/v1/reservations", `{"user_id":"1","wait_timeout":"300s"}`)
		if got.status != http.StatusOK {
			t.Errorf("the wait is answered %d: %s", got.status, got.body)
		}
	}
}

func TestACallerThatGoesEndsItsWait(t *testing.T) {
	e, asked := waiting()
	url, s := serve(t, e, nil)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-asked
		cancel()
	}()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1/reservations",
		strings.NewReader(`{"user_id":"1","wait_timeout":"300s"}`))
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := http.DefaultClient.Do(req); err == nil {
		_ = resp.Body.Close()
		t.Error("the call that was given up is answered")
	}
	s.waits <- struct{}{} // fills the places, once the wait has given up its own
	for range maxWaits - 1 {
		s.waits <- struct{}{}
	}
}

func TestWaitersDoNotKeepOthersOut(t *testing.T) {
	e, asked := waiting()
	url, s := serve(t, e, nil)
	answered := make(chan int, maxReserves)
	for range maxReserves {
		go func() {
			answered <- send(t, "POST", url+"/v1/reservations", `{"user_id":"1","wait_timeout":"300s"}`).status
		}()
	}
	for range maxReserves {
		<-asked
	}
	got := send(t, "POST", url+"/v1/reservations", `{"user_id":"1"}`)
	if got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") != "1" || !strings.Contains(got.body, `"BUSY"`) {
		t.Errorf("one more reservation is answered %d: %s", got.status, got.body)
	}
	e.mu.Lock()
	calls := e.calls
	e.mu.Unlock()
	if calls != maxReserves {
		t.Errorf("the engine is asked %d times, want %d", calls, maxReserves)
	}
	if got := send(t, "POST", url+"/v1/reservations/a.b/settle", "{}"); got.status != http.StatusBadRequest {
		t.Errorf("a settlement is answered %d: %s, want that of the service", got.status, got.body)
	}
	s.Refuse()
	for range maxReserves {
		if status := <-answered; status != http.StatusServiceUnavailable {
			t.Errorf("a call that waited until the stop is answered %d, want 503", status)
		}
	}
	got = send(t, "POST", url+"/v1/quote", `{"user_id":"1"}`)
	if got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") != "1" || !strings.Contains(got.body, `"SHUTTING_DOWN"`) {
		t.Errorf("a call that comes after it is answered %d: %s", got.status, got.body)
	}
}

func TestAPanicIsAnInternalError(t *testing.T) {
	fake := &fakeEngine{do: func(context.Context) error { panic("a defect") }}
	url, _ := serve(t, fake, nil)
	got := send(t, "POST", url+"/v1/quote", `{"user_id":"1"}`)
	if got.status != http.StatusInternalServerError || !strings.Contains(got.body, `"INTERNAL"`) || strings.Contains(got.body, "defect") {
		t.Errorf("it is answered %d: %s", got.status, got.body)
	}
	fake.do = nil
	if got := send(t, "POST", url+"/v1/quote", `{"user_id":"1"}`); got.status != http.StatusOK {
		t.Errorf("the next call is answered %d: %s", got.status, got.body)
	}
}

func TestAPageFromElsewhereMayNotCall(t *testing.T) {
	fake := &fakeEngine{}
	url, _ := serve(t, fake, nil)
	got := send(t, "POST", url+"/v1/quote", `{"user_id":"1"}`, "Origin", "https://elsewhere.example", "Content-Type", "text/plain")
	if got.status != http.StatusForbidden || !strings.Contains(got.body, `"CROSS_ORIGIN"`) || fake.calls != 0 {
		t.Errorf("it is answered %d: %s", got.status, got.body)
	}
}

func TestHeadersChangeNoCall(t *testing.T) {
	url, _ := serve(t, &fakeEngine{}, nil)
	got := send(t, "POST", url+"/v1/quote", `{"user_id":"1"}`, "X-HTTP-Method-Override", "GET", "Grpc-Metadata-X-Bin", "%%%",
		"Content-Type", "application/x-www-form-urlencoded")
	if got.status != http.StatusOK {
		t.Errorf("it is answered %d: %s", got.status, got.body)
	}
}

func TestTheOpenAPIFileNamesEveryPath(t *testing.T) {
	url, _ := serve(t, &fakeEngine{}, nil)
	got := send(t, "GET", url+pathOpenAPI, "")
	var doc struct {
		Paths map[string]map[string]any `yaml:"paths"`
	}
	if err := yaml.Unmarshal([]byte(got.body), &doc); err != nil || got.status != http.StatusOK ||
		got.header.Get("Content-Type") != "application/yaml" {
		t.Fatalf("%d of %s: %v", got.status, got.header.Get("Content-Type"), err)
	}
	var paths []string
	for path, methods := range doc.Paths {
		for method := range maps.Keys(methods) {
			paths = append(paths, strings.ToUpper(method)+" "+path)
		}
	}
	slices.Sort(paths)
	want := []string{
		"GET /v1/usage", "GET /v1/users/{user_id}/usage", "POST /v1/quote", "POST /v1/records", "POST /v1/records:batch",
		"POST /v1/reservations", "POST /v1/reservations/{reservation_id}/extend",
		"POST /v1/reservations/{reservation_id}/release", "POST /v1/reservations/{reservation_id}/settle",
	}
	if !slices.Equal(paths, want) {
		t.Errorf("the paths are %q, want %q", paths, want)
	}
}
