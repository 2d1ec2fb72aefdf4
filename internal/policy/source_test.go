package policy

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds the wait for a sign of the file system on a slow machine.
const patience = 30 * time.Second

// outcome is one call of onReload.
type outcome struct {
	hash string // of the policy in force; empty when the reload failed
	err  error
}

// watched is a source over a file, with what its reloads came to.
type watched struct {
	*Source

	outcomes chan outcome
}

func newWatched(t *testing.T, path string) *watched {
	t.Helper()
	w := &watched{Source: nil, outcomes: make(chan outcome, 100)}
	source, err := NewSource(path, Adjustments{}, func(s *Snapshot, _ []Warning, err error) {
		if err != nil {
			w.outcomes <- outcome{"", err}
			return
		}
		w.outcomes <- outcome{s.Hash(), nil}
	})
	if err != nil {
		t.Fatal(err)
	}
	w.Source = source
	return w
}

// watch runs Watch until the test ends.
func (w *watched) watch(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		if err := w.Watch(ctx); err != nil {
			t.Errorf("Watch: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		done.Wait()
	})
}

// next waits for the next outcome.
func (w *watched) next(t *testing.T) outcome {
	t.Helper()
	select {
	case got := <-w.outcomes:
		return got
	case <-time.After(patience):
		t.Fatal("no reload")
		return outcome{}
	}
}

// until waits for the reload that brings a policy with this global limit. Reloads before it may be of a file half
// written.
func (w *watched) until(t *testing.T, limit string) {
	t.Helper()
	want := mustParse(t, policyOf(limit)).Hash()
	for {
		if got := w.next(t); got.hash == want {
			break
		}
	}
	if got := w.Current().Hash(); got != want {
		t.Fatalf("the policy in force is %s; want that of %s", got, limit)
	}
}

// policyOf returns a policy with a global limit.
func policyOf(limit string) string { return head + "global: {limits: [" + limit + "]}\n" }

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// replace writes a file beside the path and renames it there, as editors do.
func replace(t *testing.T, path, text string) {
	t.Helper()
	write(t, path+".new", text)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func TestWatchSeesChanges(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "policy.yaml")
	write(t, path, policyOf("11/hour"))
	w := newWatched(t, path)
	w.watch(t)

	write(t, path, policyOf("12/hour")) // in place
	w.until(t, "12/hour")
	replace(t, path, policyOf("13/hour"))
	w.until(t, "13/hour")
	replace(t, path, policyOf("14/hour")) // the watch has not stuck to the file that is gone
	w.until(t, "14/hour")

	before := w.Current()
	replace(t, path, "domain: [\n")
	if got := w.next(t); got.err == nil || !strings.Contains(got.err.Error(), "policy.yaml:1: is not YAML") {
		t.Errorf("a bad file: got %+v; want its error", got)
	}
	if w.Current() != before {
		t.Error("a bad file has replaced the policy")
	}
	replace(t, path, policyOf("15/hour"))
	w.until(t, "15/hour")
}

func TestWatchSeesAFileVanishAndComeBack(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "policy.yaml")
	write(t, path, policyOf("11/hour"))
	w := newWatched(t, path)
	w.watch(t)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if got := w.next(t); got.err == nil {
		t.Errorf("a file that is gone: got %+v; want an error", got)
	}
	if w.Current().Hash() != mustParse(t, policyOf("11/hour")).Hash() {
		t.Error("the policy has gone with its file")
	}
	replace(t, path, policyOf("11/hour")) // the same text: the error is over all the same
	w.until(t, "11/hour")
}

func TestWatchSeesAConfigMapSwitch(t *testing.T) {
	t.Parallel()
	mount := t.TempDir()
	// As the kubelet lays out a volume: policy.yaml -> ..data/policy.yaml, ..data -> a directory named by its time.
	publish := func(version, text string) {
		directory := filepath.Join(mount, ".."+version)
		if err := os.Mkdir(directory, 0o750); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(directory, "policy.yaml"), text)
		if err := os.Symlink(".."+version, filepath.Join(mount, "..data_tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(mount, "..data_tmp"), filepath.Join(mount, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	publish("2026_11_23_1", policyOf("11/hour"))
	path := filepath.Join(mount, "policy.yaml")
	if err := os.Symlink(filepath.Join("..data", "policy.yaml"), path); err != nil {
		t.Fatal(err)
	}
	w := newWatched(t, path)
	w.watch(t)
	publish("2026_11_23_2", policyOf("12/hour"))
	w.until(t, "12/hour")
	if err := os.RemoveAll(filepath.Join(mount, "..2026_11_23_1")); err != nil {
		t.Fatal(err)
	}
	publish("2026_11_23_3", policyOf("13/hour"))
	w.until(t, "13/hour")
}

func TestWatchLeavesAnUnchangedTextAlone(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "policy.yaml")
	write(t, path, policyOf("11/hour"))
	w := newWatched(t, path)
	w.watch(t)
	before := w.Current()
	for range 3 {
		replace(t, path, policyOf("11/hour"))
		if err := w.Reload(); err != nil {
			t.Fatal(err)
		}
	}
	if w.Current() != before {
		t.Error("an unchanged text has made a new policy")
	}
	replace(t, path, policyOf("12/hour"))
	if got := w.next(t); got.hash != mustParse(t, policyOf("12/hour")).Hash() {
		t.Errorf("the first reload is %+v; want that of the one change", got)
	}
}

func TestWatchSeesWhatChangedBeforeIt(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "policy.yaml")
	write(t, path, policyOf("11/hour"))
	w := newWatched(t, path)
	write(t, path, policyOf("12/hour"))
	w.watch(t)
	w.until(t, "12/hour")
}

func TestReload(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "policy.yaml")
	write(t, path, policyOf("11/hour"))
	w := newWatched(t, path)
	before := w.Current()
	write(t, path, "domain: 1\n")
	for range 2 { // whoever asks twice is told twice
		if err := w.Reload(); err == nil || w.Current() != before {
			t.Errorf("a bad file: %v; want an error and the old policy", err)
		}
		if got := w.next(t); got.err == nil {
			t.Errorf("a bad file: onReload is told %+v", got)
		}
	}
	write(t, path, policyOf("100/minute, 50/hour"))
	if err := w.Reload(); err != nil || w.Current() == before || len(w.Warnings()) != 1 {
		t.Errorf("a good file: %v, warnings %v; want the new policy and its one warning", err, w.Warnings())
	}
}

func TestReloadKeepsTheEnvironmentsLimits(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "policy.yaml")
	write(t, path, head)
	seven := int64(7)
	source, err := NewSource(path, Adjustments{PerMinute: &seven}, nil)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, strings.Replace(head, "10/minute", "20/minute, 30/hour", 1))
	if err := source.Reload(); err != nil {
		t.Fatal(err)
	}
	if got := source.Current().Limits(); len(got) != 2 || got[0].Max != 7 || got[1].Max != 30 {
		t.Errorf("got %v; want 7/minute by the environment and 30/hour by the file", got)
	}
}

func TestBuiltinPolicyHasNothingToWatch(t *testing.T) {
	t.Parallel()
	w := newWatched(t, "production")
	if err := w.Watch(t.Context()); err != nil { // it returns though the context has not ended
		t.Error(err)
	}
	before := w.Current()
	if err := w.Reload(); err != nil || w.Current() != before {
		t.Errorf("Reload: %v; want nothing to change", err)
	}
}

func TestNewSourceNeedsAPolicy(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "policy.yaml")
	if _, err := NewSource(path, Adjustments{}, nil); err == nil {
		t.Error("a missing file is a policy")
	}
	write(t, path, "domain: 1\n")
	if _, err := NewSource(path, Adjustments{}, nil); err == nil {
		t.Error("a bad file is a policy")
	}
}
