package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	costv1 "github.com/ratelimitd/ratelimitd/pkg/api/ratelimitd/cost/v1"
	"github.com/ratelimitd/ratelimitd/test/harness"
)

// page of JSON, as a client without generated code reads it.
type jsonAnswer struct {
	t      *testing.T
	what   string
	fields map[string]any
}

// posted posts a body and reads the answer, which must have this status.
func posted(t *testing.T, d *harness.DaemonProcess, path, body string, status int) jsonAnswer {
	t.Helper()
	return readAnswer(t, path, post(t, d, path, body), status)
}

func readAnswer(t *testing.T, what string, r reply, status int) jsonAnswer {
	t.Helper()
	a := jsonAnswer{t: t, what: what}
	if r.status != status {
		t.Fatalf("%s answers %d, want %d: %s", what, r.status, status, r.body)
	}
	if err := json.Unmarshal([]byte(r.body), &a.fields); err != nil {
		t.Fatalf("%s: read the answer: %v: %s", what, err, r.body)
	}
	return a
}

// has checks fields of the answer as they stand there.
func (a jsonAnswer) has(want map[string]any) {
	a.t.Helper()
	for name, value := range want {
		if a.fields[name] != value {
			a.t.Errorf("%s: %s is %v, want %v: %v", a.what, name, a.fields[name], value, a.fields)
		}
	}
}

// text returns a field that must be a text.
func (a jsonAnswer) text(name string) string {
	a.t.Helper()
	text, ok := a.fields[name].(string)
	if !ok || text == "" {
		a.t.Fatalf("%s: %s is %v, want a text: %v", a.what, name, a.fields[name], a.fields)
	}
	return text
}

// limitOf returns the state of a limit in the answer.
func (a jsonAnswer) limitOf(tier, unit, name string) jsonAnswer {
	a.t.Helper()
	all, _ := a.fields["limits"].([]any)
	for _, one := range all {
		fields, _ := one.(map[string]any)
		if fields["tier"] == tier && fields["unit"] == unit && fields["name"] == name {
			return jsonAnswer{t: a.t, what: a.what + ", the limit " + tier + " " + unit + " " + name, fields: fields}
		}
	}
	a.t.Fatalf("%s has no limit %s %s %s: %v", a.what, tier, unit, name, a.fields)
	return jsonAnswer{}
}

// TestCostOverHTTP makes every call of the service as an app does that has nothing but HTTP and JSON.
func TestCostOverHTTP(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, env harness.Env) {
		d := harness.Daemon(t, withPolicy(t, env, spendPolicy(limits{
			user: "100/hour, 5 USD/day, 1000000 tokens/day", global: "1000/hour, 100 USD/day, 10 concurrent",
		})))
		quote := posted(t, d, "/v1/quote", `{"user_id": "123", "model": "`+llama+`", "input_tokens": 868, "max_output_tokens": 1000,
			"expected_output_tokens": 145}`, http.StatusOK)
		quote.has(map[string]any{"expected_cost_usd": "0.0002606", "maximum_cost_usd": "0.0007736", "admitted": true})

		held := posted(t, d, "/v1/reservations", `{"idempotencyKey": "1", "userId": "123", "model": "`+llama+`", "inputTokens": 868,
			"maxOutputTokens": "1000", "ttl": "60s"}`, http.StatusOK)
		held.has(map[string]any{
			"state": "ACTIVE", "held_usd": "0.0007736", "granted_output_tokens": "1000", "heartbeat_interval": "20s",
		})
		held.limitOf("user", "usd", "day").
			has(map[string]any{"limit": "5", "used": "0.0007736", "held": "0.0007736", "remaining": "4.9992264"})
		held.limitOf("global", "concurrent", "concurrent").has(map[string]any{"limit": "10", "used": "1"})
		again := posted(t, d, "/v1/reservations", `{"idempotency_key": "1", "user_id": "123", "model": "`+llama+`",
			"input_tokens": 868, "max_output_tokens": 1000, "ttl": "60s"}`, http.StatusOK)
		again.has(map[string]any{"duplicate": true, "reservation_id": held.text("reservation_id")})

		path := "/v1/reservations/" + held.text("reservation_id")
		posted(t, d, path+"/extend", `{"ttl": "120s", "max_output_tokens": 2000}`, http.StatusOK).
			has(map[string]any{"held_usd": "0.0013736", "must_stop": false, "heartbeat_interval": "40s"})
		settle := `{"usage": {"input_tokens": 868, "output_tokens": 145}, "outcome": "success"}`
		settled := posted(t, d, path+"/settle", settle, http.StatusOK)
		settled.has(map[string]any{
			"cost_usd": "0.0002606", "released_usd": "0.001113", "overage_usd": "0", "state": "SETTLED", "duplicate": false, "late": false,
		})
		posted(t, d, path+"/settle", settle, http.StatusOK).has(map[string]any{"cost_usd": "0.0002606", "duplicate": true})

		unused := posted(t, d, "/v1/reservations", `{"user_id": "123", "max_cost_usd": "0.5"}`, http.StatusOK).text("reservation_id")
		posted(t, d, "/v1/reservations/"+unused+"/release", "", http.StatusOK).
			has(map[string]any{"released_usd": "0.5", "state": "RELEASED"})

		record := `{"idempotency_key": "2", "user_id": "123", "model": "` + llama + `", "usage": {"output_tokens": 1000}}`
		posted(t, d, "/v1/records", record, http.StatusOK).has(map[string]any{"cost_usd": "0.0006", "duplicate": false})
		batch := posted(t, d, "/v1/records", `{"records": [`+record+`, {"user_id": "123"}]}`, http.StatusOK)
		if results, _ := batch.fields["results"].([]any); len(results) != 2 ||
			!strings.Contains(fmt.Sprint(results[0]), "duplicate:true") || !strings.Contains(fmt.Sprint(results[1]), "INVALID_ARGUMENT") {
			t.Errorf("the batch is answered %v, want a duplicate and an error", batch.fields)
		}

		for _, path := range []string{"/v1/users/123/usage", "/v1/usage?user_id=123", "/v1/usage?userId=123"} {
			usage := readAnswer(t, path, get(t, d.URL(path), ""), http.StatusOK)
			usage.has(map[string]any{"user_id": "123"})
			usage.limitOf("user", "usd", "day").has(map[string]any{"spent": "0.0008606", "held": "0", "remaining": "4.9991394"})
			usage.limitOf("user", "tokens", "day").has(map[string]any{"used": "2013"})
			usage.limitOf("user", "requests", "hour").has(map[string]any{"used": "2"})
		}
		system := readAnswer(t, "/v1/usage", get(t, d.URL("/v1/usage"), ""), http.StatusOK)
		system.limitOf("global", "usd", "day").has(map[string]any{"spent": "0.0008606"})
		system.limitOf("global", "concurrent", "concurrent").has(map[string]any{"used": "0"})
	})
}

// TestCostProblemsOverHTTP has each kind of error answered with its problem document.
func TestCostProblemsOverHTTP(t *testing.T) {
	t.Parallel()
	d := harness.Daemon(t, withPolicy(t, onRedis(harness.Redis(t)), spendPolicy(limits{
		user: "100/hour, 1 USD/day, 1000 tokens/day", global: "1000/hour, 100 USD/day, 2 concurrent",
	})))
	reserve := func(body string) string {
		return posted(t, d, "/v1/reservations", body, http.StatusOK).text("reservation_id")
	}
	settle := func(id string) string { return "/v1/reservations/" + id + "/settle" }
	done := reserve(`{"user_id": "done", "max_cost_usd": "0.1", "idempotency_key": "done"}`)
	posted(t, d, settle(done), `{"usage": {"input_tokens": 1}, "provider_cost_usd": "0.1"}`, http.StatusOK)
	first := reserve(`{"user_id": "spent", "max_cost_usd": "0.99", "idempotency_key": "first"}`)
	posted(t, d, settle(first), `{"usage": {"input_tokens": 1}, "provider_cost_usd": "0.99"}`, http.StatusOK)
	reserve(`{"user_id": "busy", "max_cost_usd": "0.1"}`)
	reserve(`{"user_id": "busy", "max_cost_usd": "0.1"}`)

	for _, c := range []struct {
		name, path, body string
		status           int
		reason           string
		retry            bool // Retry-After is told
		members          map[string]any
	}{
		{
			name: "a budget that is used up", path: "/v1/reservations",
			body:   `{"user_id": "spent", "max_cost_usd": "0.02", "slot": false}`,
			status: 429, reason: noUserMoney, retry: true,
			members: map[string]any{"tier": "user", "id": "spent", "unit": "usd", "limit": "1", "used": "0.99", "asked": "0.02"},
		},
		{
			name: "no slot", path: "/v1/reservations", body: `{"user_id": "a", "max_cost_usd": "0.02"}`,
			status: 429, reason: noSlot, retry: true, members: map[string]any{"tier": "global", "unit": "concurrent", "limit": "2"},
		},
		{
			name: "more than a budget in all", path: "/v1/reservations", body: `{"user_id": "a", "max_cost_usd": "1.1", "slot": false}`,
			status: 400, reason: "REQUEST_TOO_EXPENSIVE", members: map[string]any{"limit": "1", "asked": "1.1"},
		},
		{
			name: "no price", path: "/v1/quote", body: `{"user_id": "a", "model": "nobody's", "input_tokens": 1}`,
			status: 400, reason: "PRICE_UNKNOWN",
		},
		{
			name: "a field out of bounds", path: "/v1/reservations", body: `{"user_id": "a", "max_cost_usd": "1", "ttl": "7200s"}`,
			status: 400, reason: "INVALID_ARGUMENT", members: map[string]any{"field": "ttl"},
		},
		{
			name: "money that is none", path: "/v1/reservations", body: `{"user_id": "a", "max_cost_usd": "0.0000000001"}`,
			status: 400, reason: "INVALID_ARGUMENT", members: map[string]any{"field": "max_cost_usd"},
		},
		{
			name: "a field that is not known", path: "/v1/reservations", body: `{"user_id": "a", "max_cost": "1"}`,
			status: 400, reason: "INVALID_ARGUMENT",
		},
		{name: "no such reservation", path: settle("AAAA"), body: `{"usage": {}}`, status: 404, reason: notFound},
		{name: "no such path", path: "/v1/nothing", body: `{}`, status: 404, reason: "NOT_FOUND"},
		{
			name: "a key with other contents", path: "/v1/reservations",
			body:   `{"user_id": "done", "max_cost_usd": "0.2", "idempotency_key": "done"}`,
			status: 409, reason: mismatch,
		},
		{
			name: "settled otherwise before", path: settle(done), body: `{"usage": {"input_tokens": 2}, "provider_cost_usd": "0.1"}`,
			status: 409, reason: mismatch,
		},
		{name: "released after its end", path: "/v1/reservations/" + done + "/release", body: `{}`, status: 400, reason: notActive},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := post(t, d, c.path, c.body)
			problem := readAnswer(t, c.path, r, c.status)
			problem.has(map[string]any{"status": float64(c.status), "reason": c.reason, "title": http.StatusText(c.status)})
			problem.has(c.members)
			problem.text("detail")
			if got := r.header.Get("Content-Type"); got != "application/problem+json" {
				t.Errorf("the content type is %q", got)
			}
			if seconds, err := r.number("Retry-After"); c.retry != (err == nil && seconds > 0) {
				t.Errorf("Retry-After is %q, want one: %v", r.header.Get("Retry-After"), c.retry)
			}
		})
	}
}

// TestCostOpenAPI reads the description of the HTTP side: it names every path that is served.
func TestCostOpenAPI(t *testing.T) {
	t.Parallel()
	d := harness.Daemon(t, nil)
	var api struct {
		Swagger string                    `yaml:"swagger"`
		Paths   map[string]map[string]any `yaml:"paths"`
	}
	r := get(t, d.URL("/openapi.yaml"), "")
	if err := yaml.Unmarshal([]byte(r.body), &api); err != nil || r.status != http.StatusOK || api.Swagger == "" {
		t.Fatalf("/openapi.yaml answers %d, and is read as %+v: %v", r.status, api, err)
	}
	for _, want := range []string{
		"post /v1/quote", "post /v1/reservations", "post /v1/reservations/{reservation_id}/extend",
		"post /v1/reservations/{reservation_id}/settle", "post /v1/reservations/{reservation_id}/release", "post /v1/records",
		"get /v1/users/{user_id}/usage", "get /v1/usage",
	} {
		method, path, _ := strings.Cut(want, " ")
		if api.Paths[path][method] == nil {
			t.Errorf("the description has no %s: %v", want, api.Paths)
		}
	}
}

// TestCostPriceChange changes a price while a call is under way: it costs what was valid when it was admitted, a later one costs
// the new price, and a repeat has its first answer whatever the price is by then.
func TestCostPriceChange(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "policy.yaml")
	place := func(price string) {
		budgets := limits{user: "5 USD/day", global: "100 USD/day"}.text()
		writeFile(t, path+".new", budgets+"cost:\n  prices:\n    assistant: "+price+"\n")
		rename(t, path+".new", path)
	}
	place("{input: 0.000001, output: 0.000002}")
	s := newSpenders(t, 2, with(onRedis(harness.Redis(t)), "RATELIMITD_POLICY", path))
	// costs waits until every daemon says that 1,000 tokens of each kind cost this much.
	costs := func(want string) {
		t.Helper()
		for _, c := range s.clients {
			harness.WaitFor(t, "the price is "+want, func(ctx context.Context) error {
				q, err := c.Quote(ctx, &costv1.QuoteRequest{UserId: "123", Model: "assistant", InputTokens: 1000, MaxOutputTokens: 1000})
				if err == nil && q.GetMaximumCostUsd() != want {
					err = fmt.Errorf("it is %s", q.GetMaximumCostUsd())
				}
				return err
			})
		}
	}
	call := &costv1.ReserveRequest{
		UserId: "123", Model: "assistant", InputTokens: 1000, MaxOutputTokens: 1000, Ttl: durationpb.New(longLease),
	}
	used := func(id string) *costv1.SettleRequest {
		return &costv1.SettleRequest{ReservationId: id, Usage: &costv1.Usage{InputTokens: 1000, OutputTokens: 1000}}
	}

	costs("0.003")
	before := mustReserve(t, s.clients[0], call)
	from := before.GetExpiresAt().AsTime().Add(-longLease).Truncate(time.Second).Add(time.Second) // the next full second
	place(fmt.Sprintf("{versions: [{input: 0.000001, output: 0.000002}, {effective_from: %q, input: 0.00001, output: 0.00002}]}",
		from.UTC().Format(time.RFC3339)))
	costs("0.03")
	after := mustReserve(t, s.clients[1], call)
	if after.GetHeldUsd() != "0.03" {
		t.Errorf("after the change %s USD are held, want 0.03", after.GetHeldUsd())
	}
	for held, want := range map[*costv1.ReserveResponse]string{before: "0.003", after: "0.03"} {
		if res := mustSettle(t, s.clients[1], used(held.GetReservationId())); res.GetCostUsd() != want || res.GetReleasedUsd() != "0" {
			t.Errorf("a call for which %s USD were held is settled as %v, want a cost of %s", held.GetHeldUsd(), res, want)
		}
	}

	place("{input: 0.0001, output: 0.0002}")
	costs("0.3")
	res := mustSettle(t, s.clients[0], used(before.GetReservationId()))
	if res.GetCostUsd() != "0.003" || res.GetBreakdown().GetInputUsd() != "0.001" || !res.GetDuplicate() {
		t.Errorf("a repeat after one more change is answered %v, want the first answer", res)
	}
	checkSpent(t, s.clients[1], "123", "0.033", "0")
}

// TestCostCalendarReset asks when a budget of the calendar is back: at the next midnight of its time zone. That it is, is shown
// on the stores, whose clock a test can set.
func TestCostCalendarReset(t *testing.T) {
	t.Parallel()
	for _, zone := range []string{"UTC", "Asia/Kolkata", "America/New_York"} {
		t.Run(zone, func(t *testing.T) {
			t.Parallel()
			where, err := time.LoadLocation(zone)
			if err != nil {
				t.Fatal(err)
			}
			s := newSpenders(t, 1, withPolicy(t, onRedis(harness.Redis(t)), spendPolicy(limits{
				user: "{limit: 5 USD/day, window: calendar, timezone: " + zone + "}", global: "100 USD/day",
			})))
			midnight := func() time.Time {
				y, m, d := time.Now().In(where).Date()
				return time.Date(y, m, d+1, 0, 0, 0, 0, where)
			}
			from := midnight()
			mustReserve(t, s.clients[0], worth("123", "1"))
			res, err := s.clients[0].GetUsage(patient(t), &costv1.GetUsageRequest{UserId: "123"})
			if err != nil || len(res.GetLimits()) != 1 {
				t.Fatalf("the usage is answered %v (%v), want one limit", res, err)
			}
			l := res.GetLimits()[0]
			resets := l.GetResetsAt().AsTime()
			if resets.Before(from) || resets.After(midnight()) {
				t.Errorf("%s resets at %s, want %s", l.GetName(), resets.In(where), from)
			}
			if want := "1"; l.GetUsed() != want && from.Equal(midnight()) {
				t.Errorf("%s of %s has %s used, want %s", l.GetName(), l.GetLimit(), l.GetUsed(), want)
			}
		})
	}
}
