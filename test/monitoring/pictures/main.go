// Command pictures runs two daemons under a load that rises and falls, with a store that is away for a moment and a policy that is
// refused, and writes what each panel of each dashboard shows of it, as JSON. draw.py draws that.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"net/http"
	"os"
	"time"

	"github.com/ratelimitd/ratelimitd/test/harness"
	"github.com/ratelimitd/ratelimitd/test/monitoring"
)

// scrape is the time between two scrapes.
const scrape = 2 * time.Second

// picture is a dashboard and what it shows.
type picture struct {
	Name   string    `json:"name"`
	Title  string    `json:"title"`
	From   float64   `json:"from"` // seconds since the Unix epoch
	To     float64   `json:"to"`
	Panels []drawing `json:"panels"`
}

// drawing is a panel and the answers to its queries, in their order.
type drawing struct {
	monitoring.Panel

	Answers [][]monitoring.Series `json:"answers"`
}

func main() {
	out := flag.String("o", "pictures.json", "the file to write")
	length := flag.Duration("for", 8*time.Minute, "how long the load runs")
	flag.Parse()
	if !harness.Run(func(t harness.TB) { take(t, *out, *length) }) {
		os.Exit(1)
	}
}

// take runs the load and writes what the dashboards show of it.
func take(t harness.TB, out string, length time.Duration) {
	stack := monitoring.Start(t, monitoring.Timing{Scrape: scrape, Decision: "50ms"})
	load := monitoring.NewLoad(t, stack)
	load.Users = 320
	load.Pace = func(since time.Duration) float64 { return 50 + 40*wave(since, length) }
	load.Think = func(since time.Duration) time.Duration {
		return time.Duration((0.3 + 0.25*wave(since+length/8, length)) * float64(time.Second))
	}
	from := time.Now()
	ctx, stop := context.WithTimeout(context.Background(), length)
	defer stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		load.Run(ctx)
	}()
	happen(ctx, stack, length)
	api := monitoring.API{URL: stack.Prometheus.URL, Client: &http.Client{}}
	write(t, api, out, from.Add(3*scrape), time.Now())
	stop()
	<-done
}

// wave rises and falls between -1 and 1, twice in a length.
func wave(since, length time.Duration) float64 {
	at := 2 * math.Pi * since.Seconds() / length.Seconds()
	return 0.6*math.Sin(2*at+0.9) + 0.4*math.Sin(5*at)
}

// happen has things go wrong and well again, and returns just before the load ends.
func happen(ctx context.Context, stack *monitoring.Stack, length time.Duration) {
	for _, event := range []struct {
		share float64 // of the length, since the event before
		do    func()
	}{
		{0.40, stack.Redis.Pause},
		{0.02, stack.Redis.Resume},
		{0.23, stack.BreakPolicy},
		{0.08, stack.MendPolicy},
		{0.26, func() {}},
	} {
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(event.share * float64(length))):
		}
		event.do()
	}
}

// write asks what each panel shows and writes it.
func write(t harness.TB, api monitoring.API, out string, from, to time.Time) {
	root := harness.Root(t)
	var pictures []picture
	for _, name := range monitoring.DashboardNames() {
		d, err := monitoring.ReadDashboard(root, name)
		if err != nil {
			t.Fatalf("%v", err)
		}
		p := picture{Name: name, Title: d.Title, From: seconds(from), To: seconds(to)}
		for _, panel := range d.Panels {
			drawn := drawing{Panel: panel}
			for _, target := range panel.Targets {
				series, err := ask(api, target, from, to)
				if err != nil {
					t.Fatalf("%v", err)
				}
				drawn.Answers = append(drawn.Answers, series)
			}
			p.Panels = append(p.Panels, drawn)
		}
		pictures = append(pictures, p)
	}
	text, err := json.Marshal(pictures)
	if err != nil {
		t.Fatalf("write the pictures: %v", err)
	}
	if err := os.WriteFile(out, text, 0o600); err != nil {
		t.Fatalf("write the pictures: %v", err)
	}
}

// ask asks one query as Grafana does.
func ask(api monitoring.API, target monitoring.Target, from, to time.Time) ([]monitoring.Series, error) {
	chosen := monitoring.Variables{
		Job: monitoring.Job, Namespace: monitoring.Namespace, RateInterval: "20s", Range: fmt.Sprintf("%ds", int(to.Sub(from).Seconds())),
	}
	ctx, cancel := context.WithTimeout(context.Background(), harness.Patience)
	defer cancel()
	if target.Instant {
		return api.Query(ctx, chosen.Resolve(target.Expr))
	}
	return api.QueryRange(ctx, chosen.Resolve(target.Expr), from, to, scrape)
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1e3 }
