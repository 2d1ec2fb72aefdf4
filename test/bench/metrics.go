package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// counters are the samples of a daemon's /metrics, by name and labels as they stand there.
type counters map[string]float64

// scrape reads the metrics of the daemon whose HTTP address is addr.
func scrape(ctx context.Context, addr string) (counters, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/metrics", nil)
	if err != nil {
		return nil, fmt.Errorf("ask %s for its metrics: %w", addr, err)
	}

	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask %s for its metrics: %w", addr, err)
	}
	defer resp.Body.Close() // it was read to its end

	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask %s for its metrics: %s", addr, resp.Status)
	}

	found := make(counters)

	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		line := lines.Text()

		space := strings.LastIndexByte(line, ' ')
		if space < 0 || strings.HasPrefix(line, "#") {
			continue
		}

		if value, err := strconv.ParseFloat(line[space+1:], 64); err == nil {
			found[line[:space]] = value
		}
	}

	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the metrics of %s: %w", addr, err)
	}

	return found, nil
}

// sum adds up the series of a metric whose labels contain the text.
func (c counters) sum(metric, labels string) float64 {
	var sum float64

	for series, value := range c {
		name, have, _ := strings.Cut(series, "{")
		if name == metric && strings.Contains(have, labels) {
			sum += value
		}
	}

	return sum
}
