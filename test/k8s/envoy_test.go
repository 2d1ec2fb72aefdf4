package k8s

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the example's envoy.yaml anew from deploy/envoy/envoy-cost.yaml")

// envoyOfExample is what the example's envoy.yaml says otherwise than the shipped envoy-cost.yaml, from which it is made.
var envoyOfExample = []struct{ from, to string }{
	{
		from: `#   client -> Envoy 127.0.0.1:10000 -> assistant 127.0.0.1:9000
#                     |
#                     +- gRPC -> ratelimitd 127.0.0.1:8081
#
# Run it with:   envoy -c deploy/envoy/envoy-cost.yaml
# Check it with: envoy --mode validate -c deploy/envoy/envoy-cost.yaml
`,
		to: `# This is deploy/envoy/envoy-cost.yaml in a pod: the listener is open to others, its connections end before the pod does,
# ratelimitd is reached by its socket, and there is a listener for probes. Do not edit it before you have a copy of your own:
# it is made from that file.
#
#   clients -> Envoy :10000 -> assistant 127.0.0.1:9000
#                 |
#                 +- gRPC -> ratelimitd, /run/ratelimitd/ratelimitd.sock
`,
	},
	{
		from: "socket_address: { address: 127.0.0.1, port_value: 10000 }",
		to:   "socket_address: { address: 0.0.0.0, port_value: 10000 }",
	},
	{
		from: `          stat_prefix: assistant
`,
		to: `          stat_prefix: assistant
          # A Service sends new connections to other pods when this one is to end, and moves none that stands. So none takes
          # requests for long: after 5 s it is told to close, HTTP/1.1 by its next answer and HTTP/2 by GOAWAY, which takes
          # 2 s more. Both together are less than the app's preStop sleeps. An answer on its way may take as long as it does.
          common_http_protocol_options: { max_connection_duration: 5s }
          http1_safe_max_connection_duration: true # never while a request may be on its way
          drain_timeout: 2s
`,
	},
	{
		from: `
  clusters:
`,
		to: `
  # For the kubelet and Prometheus, which come from outside of the pod: three pages, and nothing else of what Envoy's own
  # pages can do. None of them is limited.
  - name: pages
    address:
      socket_address: { address: 0.0.0.0, port_value: 9902 }
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: pages
          route_config:
            name: pages
            virtual_hosts:
            - name: pages
              domains: ["*"]
              routes:
              - match: { path: /ready } # Envoy itself
                route: { cluster: admin }
              - match: { path: /stats/prometheus }
                route: { cluster: admin }
              - match: { path: /healthz } # the assistant
                route: { cluster: assistant }
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router

  clusters:
  - name: admin
    type: STATIC
    connect_timeout: 1s
    load_assignment:
      cluster_name: admin
      endpoints:
      - lb_endpoints:
        - endpoint:
            address:
              socket_address: { address: 127.0.0.1, port_value: 9901 }

`,
	},
	{
		from: "socket_address: { address: 127.0.0.1, port_value: 8081 }",
		to:   "pipe: { path: /run/ratelimitd/ratelimitd.sock }",
	},
}

// TestEnvoyOfTheExampleIsTheShippedOne makes the example's configuration from the shipped one, whose every promise other
// tests hold it to, and compares.
func TestEnvoyOfTheExampleIsTheShippedOne(t *testing.T) {
	root := repository(t)
	text := readFile(t, filepath.Join(root, "deploy", "envoy", "envoy-cost.yaml"))
	for _, r := range envoyOfExample {
		if n := strings.Count(text, r.from); n != 1 {
			t.Fatalf("envoy-cost.yaml says %d times what the example says otherwise, want once:\n%s", n, r.from)
		}
		text = strings.Replace(text, r.from, r.to, 1)
	}
	path := filepath.Join(root, "deploy", "k8s", "examples", "assistant", "envoy.yaml")
	if *update {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatalf("write the example's envoy.yaml: %v", err)
		}
	}
	if readFile(t, path) != text {
		t.Errorf("%s is not what deploy/envoy/envoy-cost.yaml makes it: run `go -C test/k8s test -run %s . -update`", path, t.Name())
	}
}
