package harness

import (
	"context"
	"os/exec"
)

// PrometheusServer is one Prometheus process.
type PrometheusServer struct {
	URL     string // of its API, without a slash at the end
	program *RunningProgram
}

// Prometheus starts a Prometheus with a configuration file, given by its whole path, and returns when it can be asked. Its data
// is gone with the test.
func Prometheus(t TB, config string) *PrometheusServer {
	t.Helper()
	addr := Addr(t)
	p := &PrometheusServer{URL: "http://" + addr}
	p.program = Start(t, Program{
		Name: "prometheus",
		Path: tool(t, "prometheus", anyVersion),
		Args: []string{
			"--config.file=" + config, "--web.listen-address=" + addr, "--storage.tsdb.path=" + t.TempDir(), "--log.level=warn",
			"--enable-feature=exemplar-storage",
		},
		Ready: func(ctx context.Context) error { return getOK(ctx, p.URL+"/-/ready") },
	})
	return p
}

// Log returns all that it has written.
func (p *PrometheusServer) Log() string { return p.program.Log() }

// AlertmanagerServer is one Alertmanager process, a cluster of its own.
type AlertmanagerServer struct {
	URL     string // of its API, without a slash at the end
	program *RunningProgram
}

// Alertmanager starts an Alertmanager with a configuration file, given by its whole path, and returns when it takes alerts. What it
// remembers is gone with the test.
func Alertmanager(t TB, config string) *AlertmanagerServer {
	t.Helper()
	addr := Addr(t)
	a := &AlertmanagerServer{URL: "http://" + addr}
	a.program = Start(t, Program{
		Name: "alertmanager",
		Path: tool(t, alertmanagerName(), anyVersion),
		Args: []string{
			"--config.file=" + config, "--web.listen-address=" + addr, "--storage.path=" + t.TempDir(), "--cluster.listen-address=",
			"--log.level=warn",
		},
		Ready: func(ctx context.Context) error { return getOK(ctx, a.URL+"/-/ready") },
	})
	return a
}

// Log returns all that it has written.
func (a *AlertmanagerServer) Log() string { return a.program.Log() }

// alertmanagerName is what the program is called: Debian has a name of its own for it.
func alertmanagerName() string {
	const own, debian = "alertmanager", "prometheus-alertmanager"
	if _, err := exec.LookPath(own); err == nil {
		return own
	}
	return debian
}

// Promtool returns the path of the command that checks and tests rules.
func Promtool(t TB) string {
	t.Helper()
	return tool(t, "promtool", anyVersion)
}

// Amtool returns the path of the command that checks configurations of the Alertmanager.
func Amtool(t TB) string {
	t.Helper()
	return tool(t, "amtool", anyVersion)
}

func anyVersion(string) error { return nil }
