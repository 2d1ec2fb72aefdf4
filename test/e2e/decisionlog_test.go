package e2e

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ratelimitd/ratelimitd/test/harness"
)

// hashKey is the key of hashed ids in these tests.
const hashKey = "a key of these tests"

// decided reads the lines of the decision log out of all that a daemon has written. Each line must be whole.
func decided(t *testing.T, daemon *harness.DaemonProcess) []map[string]any {
	t.Helper()
	var lines []map[string]any
	for line := range strings.Lines(daemon.Log()) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatalf("a line is no JSON: %v: %q", err, line)
		}
		if fields["logger"] == "decision" {
			lines = append(lines, fields)
		}
	}
	return lines
}

// stop has a daemon end in order.
func stop(t *testing.T, daemon *harness.DaemonProcess) {
	t.Helper()
	daemon.Terminate()
	if err := daemon.Wait(); err != nil {
		t.Errorf("the daemon ends with %v", err)
	}
}

// firstID is the id of the first check of a line; nil if it shows none.
func firstID(line map[string]any) any {
	checks, _ := line["checks"].([]any)
	if len(checks) == 0 {
		return nil
	}
	check, _ := checks[0].(map[string]any)
	return check["id"]
}

// TestTheDecisionLogTellsWhoWhatWhyAndHowLong has a daemon decide behind a real Envoy and stop: every line is there then.
func TestTheDecisionLogTellsWhoWhatWhyAndHowLong(t *testing.T) {
	t.Parallel()
	mac := hmac.New(sha256.New, []byte(hashKey))
	mac.Write([]byte("someone"))
	keyFile := filepath.Join(t.TempDir(), "key")
	writeFile(t, keyFile, hashKey+"\n")
	for name, tc := range map[string]struct {
		env   harness.Env
		lines int
		id    any
	}{
		"all, plain":       {harness.Env{"RATELIMITD_DECISION_LOG": "all"}, 3, "someone"},
		"denied, hashed":   {harness.Env{"RATELIMITD_DECISION_LOG_IDS": "hashed", "RATELIMITD_LOG_HASH_KEY_FILE": keyFile}, 1, hex.EncodeToString(mac.Sum(nil)[:16])},
		"denied, no ids":   {harness.Env{"RATELIMITD_DECISION_LOG_IDS": "none"}, 1, nil},
		"off, by its flag": {harness.Env{}, 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			flag := "--log-level=info"
			switch {
			case strings.HasPrefix(name, "denied"):
				flag = "--decision-log=denied"
			case strings.HasPrefix(name, "off"):
				flag = "--decision-log=off"
			}
			s := newStack(t, withPolicy(t, tc.env, limits{user: "2/hour", global: "1000/hour"}.text()), flag)
			for i, want := range []int{http.StatusOK, http.StatusOK, http.StatusTooManyRequests} {
				if r, err := fetch(t.Context(), s.envoy.URL, "someone"); err != nil || r.status != want {
					t.Fatalf("request %d is answered with %d, %v; want %d", i, r.status, err, want)
				}
			}
			stop(t, s.daemon)
			lines := decided(t, s.daemon)
			if len(lines) != tc.lines {
				t.Fatalf("3 decisions are %d lines, want %d: %v", len(lines), tc.lines, lines)
			}
			if tc.lines == 0 {
				return
			}
			last := lines[len(lines)-1]
			if got := firstID(last); got != tc.id {
				t.Errorf("the user is shown as %v, want %v", got, tc.id)
			}
			for field, want := range map[string]any{
				"msg": "denied", "verdict": "denied", "mode": "stored", "domain": "assistant", "tier": "user", "limit": "hour",
				"unit": "requests", "max": 2.0, "remaining": 0.0,
			} {
				if last[field] != want {
					t.Errorf("%s of a denial is %v, want %v: %v", field, last[field], want, last)
				}
			}
			if took, ok := last["duration"].(float64); !ok || took <= 0 || took > harness.Patience.Seconds() {
				t.Errorf("a decision took %v seconds", last["duration"])
			}
			if name != "all, plain" && strings.Contains(s.daemon.Log(), "someone") {
				t.Errorf("the log names the user: %s", s.daemon.Log())
			}
		})
	}
}

// TestAnIDFromAClientCannotForgeALine sends ids that would end a line or a text of it.
func TestAnIDFromAClientCannotForgeALine(t *testing.T) {
	t.Parallel()
	daemon := harness.Daemon(t, harness.Env{"RATELIMITD_DECISION_LOG": "all"})
	ids := []string{"a\n{\"logger\":\"decision\",\"verdict\":\"allowed\"}", `","verdict":"allowed","x":"`, strings.Repeat("x", 500), "\u2028é"}
	for _, id := range ids {
		body, err := json.Marshal(map[string]any{"user_id": id, "max_cost_usd": "0.01"})
		if err != nil {
			t.Fatal(err)
		}
		traced(t, http.MethodPost, daemon.URL("/v1/reservations"), "", "", string(body))
	}
	stop(t, daemon)
	lines := decided(t, daemon)
	for i, line := range lines {
		id, _ := firstID(line).(string)
		if want := ids[i]; id != want && !strings.HasPrefix(want, strings.TrimSuffix(id, "…")) {
			t.Errorf("the id %q is shown as %q", want, id)
		}
	}
	if len(lines) != len(ids) {
		t.Errorf("%d decisions are %d lines", len(ids), len(lines))
	}
}

// TestAReaderOfTheLogsThatGoesEndsNothing has whoever reads the decision log go away: calls are answered all the same, and what
// could not be written is counted.
func TestAReaderOfTheLogsThatGoesEndsNothing(t *testing.T) {
	t.Parallel()
	grpcAddr, httpAddr := harness.Addr(t), harness.Addr(t)
	cmd := exec.Command(harness.Binary(t), "serve", "--decision-log=all", "--grpc-addr="+grpcAddr, "--http-addr="+httpAddr)
	cmd.Env = []string{"RATELIMITD_DECISION_TIMEOUT=" + harness.AskTimeout}
	var log bytes.Buffer
	cmd.Stderr = &log
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	}()
	if err := out.Close(); err != nil { // nobody reads
		t.Fatal(err)
	}
	url := "http://" + httpAddr
	harness.WaitFor(t, "the daemon serves", func(ctx context.Context) error {
		_, err := fetch(ctx, url+"/readyz", "")
		return err
	})
	for range 3 {
		if status, body := traced(t, http.MethodPost, url+"/v1/reservations", "", "", `{"user_id":"a","max_cost_usd":"0.01"}`); status != http.StatusOK {
			t.Fatalf("a call is answered with %d %s", status, body)
		}
	}
	harness.WaitFor(t, "the lines that are lost are counted", func(ctx context.Context) error {
		r, err := fetch(ctx, url+"/metrics", "")
		if err == nil && !strings.Contains(r.body, "ratelimitd_decision_log_dropped_total 3") {
			err = errors.New("they are not")
		}
		return err
	})
}
