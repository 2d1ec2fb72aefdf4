package harness

import "context"

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
		},
		Ready: func(ctx context.Context) error { return getOK(ctx, p.URL+"/-/ready") },
	})
	return p
}

// Log returns all that it has written.
func (p *PrometheusServer) Log() string { return p.program.Log() }

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
