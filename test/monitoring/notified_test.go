package monitoring_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ratelimitd/ratelimitd/test/harness"
)

// notified is a real Alertmanager with the example's routes, and who is told.
type notified struct {
	*receivers

	url string // where it takes alerts
}

// waits are how long the example has an Alertmanager wait for alerts that belong together.
var waits = regexp.MustCompile(`(group_wait|group_interval): \w+`)

// newNotified starts an Alertmanager with the example: its own, but for the addresses and the waits.
func newNotified(t *testing.T) *notified {
	t.Helper()
	n := &notified{receivers: newReceivers(t)}
	dir := t.TempDir()
	config := text(t, filepath.Join(harness.Root(t), "deploy", "prometheus", "alertmanager.yaml"))
	config = waits.ReplaceAllString(config, "$1: 300ms")
	config = strings.ReplaceAll(config, "/etc/alertmanager/secrets/", dir+"/")
	config = "global: {pagerduty_url: " + n.URL + "/pagerduty}\n" + config
	for name, content := range map[string]string{
		"slack-url": n.URL + "/slack", "pagerduty-key": "a-key", "alertmanager.yaml": config,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	n.url = harness.Alertmanager(t, filepath.Join(dir, "alertmanager.yaml")).URL + "/api/v2/alerts"
	return n
}

// alert is one that Prometheus sends.
type alert struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	EndsAt      *time.Time        `json:"endsAt,omitempty"` //nolint:tagliatelle // the Alertmanager's own spelling
}

// firing returns the alert of a rule, named as Rule.Name does and with its severity if two have that name, with labels of its own
// as "limit=day". Its description tells it from all others.
func firing(t *testing.T, name string, labels ...string) alert {
	t.Helper()
	for _, rule := range alerts(t) {
		if rule.Name() != name && rule.Name()+" "+rule.Labels["severity"] != name {
			continue
		}
		a := alert{Labels: maps.Clone(rule.Labels), Annotations: maps.Clone(rule.Annotations)}
		a.Labels["alertname"], a.Labels["namespace"] = rule.Alert, "assistant"
		for _, label := range labels {
			key, value, _ := strings.Cut(label, "=")
			a.Labels[key] = value
		}
		a.Annotations["description"] = a.name()
		return a
	}
	t.Fatalf("no alert is called %q", name)
	return alert{}
}

// name is all labels of an alert.
func (a *alert) name() string {
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(a.Labels)) {
		parts = append(parts, key+"="+a.Labels[key])
	}
	return "[" + strings.Join(parts, " ") + "]"
}

// over is the alert once it is resolved.
func (a *alert) over() alert {
	now := time.Now()
	return alert{Labels: a.Labels, Annotations: a.Annotations, EndsAt: &now}
}

// send hands alerts to the Alertmanager.
func (n *notified) send(t *testing.T, all ...alert) {
	t.Helper()
	body, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	client := &http.Client{}
	defer client.CloseIdleConnections()
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }() // nothing is read
	if res.StatusCode != http.StatusOK {
		t.Fatalf("the Alertmanager answers %s to %s", res.Status, body)
	}
}

// told says whether Slack was told of an alert.
func (n *notified) told(a *alert) bool {
	for _, message := range n.messages() {
		for _, attachment := range message.Attachments {
			if strings.Contains(attachment.Text, a.name()) {
				return true
			}
		}
	}
	return false
}

// woken says whether PagerDuty has an incident with an alert.
func (n *notified) woken(a *alert) bool {
	return slices.ContainsFunc(n.incidents(), func(event pagerEvent) bool {
		return strings.Contains(event.Payload.Details["description"], a.name())
	})
}

// waitTold waits until Slack was told of alerts.
func (n *notified) waitTold(t *testing.T, all ...alert) {
	t.Helper()
	for _, a := range all {
		harness.WaitFor(t, "Slack is told of "+a.name(), func(context.Context) error {
			if !n.told(&a) {
				return fmt.Errorf("it has %d messages, none of them with it", len(n.messages()))
			}
			return nil
		})
	}
}

// waitIncident waits until PagerDuty has an event about an alert and returns it.
func (n *notified) waitIncident(t *testing.T, action string, about *alert) pagerEvent {
	t.Helper()
	var found pagerEvent
	harness.WaitFor(t, "PagerDuty has a "+action+" of "+about.name(), func(context.Context) error {
		for _, event := range n.incidents() {
			if event.Action == action && strings.Contains(event.Payload.Details["description"], about.name()) {
				found = event
				return nil
			}
		}
		return fmt.Errorf("it has %+v", n.incidents())
	})
	return found
}

// TestEachBudgetThatPassesAThresholdWakesSomebody has PagerDuty open an incident for each: what joins an open one wakes nobody.
func TestEachBudgetThatPassesAThresholdWakesSomebody(t *testing.T) {
	n := newNotified(t)
	const job, money = "job=assistant", "unit=usd"
	day95 := firing(t, "RatelimitdBudgetSpent 95", job, "tier=global", "limit=day", money, "window=sliding")
	month95 := firing(t, "RatelimitdBudgetSpent 95", job, "tier=global", "limit=month", money, "window=calendar")
	day100 := firing(t, "RatelimitdBudgetSpent 100", job, "tier=global", "limit=day", money, "window=sliding")

	keys := map[string]string{}
	for _, c := range []struct {
		sent  alert
		title string
	}{
		{day95, "95 % of a global budget are spent: day (job assistant)"},
		{month95, "95 % of a global budget are spent: month (job assistant)"},
		{day100, "A global budget is gone: day (job assistant)"},
	} {
		n.send(t, c.sent)
		event := n.waitIncident(t, "trigger", &c.sent)
		if event.Payload.Summary != c.title || event.Payload.Severity != "critical" {
			t.Errorf("the incident is called %q (%s), want %q (critical)", event.Payload.Summary, event.Payload.Severity, c.title)
		}
		if other := keys[event.Key]; other != "" {
			t.Errorf("%q joins the open incident %q, and wakes nobody", c.title, other)
		}
		keys[event.Key] = c.title
	}
	n.send(t, day100.over(), day95.over(), month95.over())
	for _, a := range []alert{day100, day95, month95} {
		if opened, ended := n.waitIncident(t, "trigger", &a), n.waitIncident(t, "resolve", &a); opened.Key != ended.Key {
			t.Errorf("%s opens the incident %s and ends %s", a.name(), opened.Key, ended.Key)
		}
	}
}

// TestEachIncidentHasATitle has every alert that wakes somebody fire, as it may without the others that stand for it.
func TestEachIncidentHasATitle(t *testing.T) {
	n := newNotified(t)
	for _, rule := range alerts(t) {
		if rule.Labels["severity"] != "critical" {
			continue
		}
		name := strings.TrimSpace(rule.Name() + " " + rule.Labels["severity"])
		sent := firing(t, name, "job="+rule.Alert+rule.Labels["threshold"])
		n.send(t, sent)
		event := n.waitIncident(t, "trigger", &sent)
		if want := rule.Annotations["summary"] + " (job " + sent.Labels["job"] + ")"; event.Payload.Summary != want {
			t.Errorf("the incident of %s is called %q, want %q", name, event.Payload.Summary, want)
		}
	}
}

// following is an alert, and what others fire with it.
type following struct {
	source  string
	follow  []string // not told of the same installation and budget; told of another
	despite []string // told all the same
}

// TestWhatFollowsFromAnotherAlertIsNotTold sends an alert, and then those that follow from it and some that do not.
func TestWhatFollowsFromAnotherAlertIsNotTold(t *testing.T) {
	n := newNotified(t)
	const (
		half, most   = "RatelimitdBudgetSpent 50", "RatelimitdBudgetSpent 80"
		nearly, gone = "RatelimitdBudgetSpent 95", "RatelimitdBudgetSpent 100"
		runsOut      = "RatelimitdBudgetRunsOut"
		limited      = "RatelimitdManyLimited"
	)
	for _, c := range []following{
		{
			"RatelimitdStoreDown",
			[]string{"RatelimitdFailingOpen", "RatelimitdFailingShut", "RatelimitdLostSettlements"},
			[]string{"RatelimitdRedisMemory", "RatelimitdDown critical"},
		},
		{"RatelimitdFailingShut", []string{limited}, []string{"RatelimitdFailingOpen"}},
		{"RatelimitdDown critical", []string{"RatelimitdDown warning"}, []string{"RatelimitdStoreDown"}},
		{"RatelimitdDown warning", nil, []string{"RatelimitdDown critical"}},
		{gone, []string{nearly, most, half, runsOut, limited}, []string{"RatelimitdSlotsNearlyFull"}},
		{nearly, []string{most, half, runsOut}, []string{limited}},
		{nearly, nil, []string{gone}},
		{most, []string{half}, []string{runsOut, limited}},
		{most, nil, []string{nearly}},
		{half, nil, []string{most, runsOut, limited}},
	} {
		t.Run(c.source+" then "+strings.Join(slices.Concat(c.follow, c.despite), ", "), func(t *testing.T) { c.check(t, n) })
	}
}

// check sends the alert, waits until it is told, and sends the others.
func (f *following) check(t *testing.T, n *notified) {
	of := func(name string, other ...string) alert {
		day := []string{"job=" + t.Name(), "tier=global", "limit=day", "unit=usd", "window=sliding"}
		return firing(t, name, append(day, other...)...)
	}
	source := of(f.source)
	n.send(t, source)
	n.waitTold(t, source)

	var silent, loud []alert
	for _, name := range f.follow {
		silent = append(silent, of(name))
		loud = append(loud, of(name, "job=another than "+t.Name()+", with "+name))
		if strings.HasPrefix(name, "RatelimitdBudget") {
			loud = append(loud, of(name, "limit=another, with "+name))
		}
	}
	for _, name := range f.despite {
		loud = append(loud, of(name))
	}
	last := of("RatelimitdPanics") // what was sent before it is told by now, or never is
	n.send(t, slices.Concat(silent, loud, []alert{last})...)
	n.waitTold(t, append(loud, last)...)
	for _, a := range loud {
		if a.Labels["severity"] == "critical" {
			n.waitIncident(t, "trigger", &a)
		}
	}
	for _, a := range silent {
		if n.told(&a) {
			t.Errorf("Slack is told of %s, though it was of %s", a.name(), source.name())
		}
		if n.woken(&a) {
			t.Errorf("%s wakes somebody, though %s has", a.name(), source.name())
		}
	}
}
