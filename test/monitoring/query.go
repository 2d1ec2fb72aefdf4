package monitoring

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Series is one line of an answer of Prometheus.
type Series struct {
	Labels map[string]string `json:"labels"`
	Points []Point           `json:"points"`
}

// Point is one value. It is never NaN: those are left out.
type Point struct {
	Time  float64 `json:"time"` // seconds since the Unix epoch
	Value float64 `json:"value"`
}

// API asks a Prometheus.
type API struct {
	URL    string // without a slash at the end
	Client *http.Client
}

// Query returns what an expression is now.
func (a API) Query(ctx context.Context, expr string) ([]Series, error) {
	return a.ask(ctx, "/api/v1/query", url.Values{"query": {expr}})
}

// QueryRange returns what an expression was over time.
func (a API) QueryRange(ctx context.Context, expr string, from, to time.Time, step time.Duration) ([]Series, error) {
	at := func(t time.Time) string { return strconv.FormatFloat(float64(t.UnixMilli())/1e3, 'f', 3, 64) }
	return a.ask(ctx, "/api/v1/query_range", url.Values{
		"query": {expr}, "start": {at(from)}, "end": {at(to)}, "step": {strconv.FormatFloat(step.Seconds(), 'f', 3, 64)},
	})
}

// Traces returns the ids of traces among the exemplars of an expression's series since a time.
func (a API) Traces(ctx context.Context, expr string, since time.Time) ([]string, error) {
	var answer []struct {
		Exemplars []struct {
			Labels map[string]string `json:"labels"`
		} `json:"exemplars"`
	}
	at := func(t time.Time) []string { return []string{strconv.FormatInt(t.Unix(), 10)} }
	query := url.Values{"query": {expr}, "start": at(since), "end": at(time.Now().Add(time.Second))}
	if err := a.get(ctx, "/api/v1/query_exemplars?"+query.Encode(), &answer); err != nil {
		return nil, fmt.Errorf("%w, of the exemplars of %s", err, expr)
	}
	var ids []string
	for _, series := range answer {
		for _, exemplar := range series.Exemplars {
			if id := exemplar.Labels["trace_id"]; id != "" {
				ids = append(ids, id)
			}
		}
	}
	return ids, nil
}

// Rules returns the health of each rule that the Prometheus has loaded, with its last error.
func (a API) Rules(ctx context.Context) ([]RuleHealth, error) {
	var answer struct {
		Groups []struct {
			Rules []RuleHealth `json:"rules"`
		} `json:"groups"`
	}
	if err := a.get(ctx, "/api/v1/rules", &answer); err != nil {
		return nil, err
	}
	var all []RuleHealth
	for _, group := range answer.Groups {
		all = append(all, group.Rules...)
	}
	return all, nil
}

// RuleHealth tells whether a rule could be evaluated.
type RuleHealth struct {
	Name   string `json:"name"`
	Health string `json:"health"`    // ok, err or unknown
	Error  string `json:"lastError"` //nolint:tagliatelle // Prometheus's own spelling
	State  string `json:"state"`     // of an alert: inactive, pending or firing
}

// LabelValues returns the values of a label among the series of a selector.
func (a API) LabelValues(ctx context.Context, label, selector string) ([]string, error) {
	var values []string
	err := a.get(ctx, "/api/v1/label/"+url.PathEscape(label)+"/values?"+url.Values{"match[]": {selector}}.Encode(), &values)
	return values, err
}

func (a API) ask(ctx context.Context, path string, query url.Values) ([]Series, error) {
	var answer struct {
		Result []struct {
			Metric map[string]string `json:"metric"`
			Value  json.RawMessage   `json:"value"`
			Values []json.RawMessage `json:"values"`
		} `json:"result"`
	}
	if err := a.get(ctx, path+"?"+query.Encode(), &answer); err != nil {
		return nil, fmt.Errorf("%w, of the query %s", err, query.Get("query"))
	}
	all := make([]Series, 0, len(answer.Result))
	for _, result := range answer.Result {
		series := Series{Labels: result.Metric}
		if result.Value != nil {
			result.Values = append(result.Values, result.Value)
		}
		for _, raw := range result.Values {
			point, err := pointOf(raw)
			if err != nil {
				return nil, err
			}
			if !math.IsNaN(point.Value) {
				series.Points = append(series.Points, point)
			}
		}
		if len(series.Points) > 0 {
			all = append(all, series)
		}
	}
	return all, nil
}

// pointOf reads a pair of a time and a value as text.
func pointOf(raw json.RawMessage) (Point, error) {
	var at float64
	var text string
	if err := json.Unmarshal(raw, &[2]any{&at, &text}); err != nil {
		return Point{}, fmt.Errorf("read a value of Prometheus: %w", err)
	}
	value, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return Point{}, fmt.Errorf("read a value of Prometheus: %w", err)
	}
	return Point{Time: at, Value: value}, nil
}

// get asks a page of the API and reads its data.
func (a API) get(ctx context.Context, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.URL+path, http.NoBody)
	if err != nil {
		return fmt.Errorf("ask Prometheus: %w", err)
	}
	res, err := a.Client.Do(req)
	if err != nil {
		return fmt.Errorf("ask Prometheus: %w", err)
	}
	defer func() { _ = res.Body.Close() }() // read only
	var answer struct {
		Status string          `json:"status"`
		Error  string          `json:"error"`
		Data   json.RawMessage `json:"data"`
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		return fmt.Errorf("read Prometheus's answer: %w", err)
	}
	if answer.Status != "success" {
		return fmt.Errorf("prometheus answers %q", strings.TrimSpace(answer.Status+" "+answer.Error))
	}
	if err := json.Unmarshal(answer.Data, into); err != nil {
		return fmt.Errorf("read Prometheus's answer: %w", err)
	}
	return nil
}
