package app

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/ratelimitd/ratelimitd/internal/telemetry"
)

// Names of the settings that messages repeat.
const (
	envSampler    = "OTEL_TRACES_SAMPLER"
	envSamplerArg = "OTEL_TRACES_SAMPLER_ARG"
	envAttributes = "OTEL_RESOURCE_ATTRIBUTES"
	envDisabled   = "OTEL_SDK_DISABLED"
)

// What holds unless OpenTelemetry's variables say otherwise.
const (
	serviceName   = "ratelimitd"
	traceQueue    = 2048
	traceBatch    = 512
	traceDelay    = 5 * time.Second
	traceLimit    = 30 * time.Second
	tracesPath    = "/v1/traces"
	maxAttributes = 64 // of OTEL_RESOURCE_ATTRIBUTES
)

// otelText is what OpenTelemetry's variables say, before it is put together. What says where traces go must be right; the rest is
// ignored with a warning where it is wrong, as OpenTelemetry wants it.
type otelText struct {
	disabled         string
	exporter         string
	endpoint         string // of all signals
	tracesEndpoint   string
	protocol         string
	protocolName     string // of the variable that says so
	sampler, arg     string
	service          string
	attributes       string
	queue, batch     int64
	delayMs, limitMs int64
	warnings         []string
}

// otelSettings are those of traces, by the names that OpenTelemetry gives them.
func otelSettings() []Setting {
	text := func(env, initial, values, help string, to func(*otelText) *string) Setting {
		return Setting{Env: env, Default: initial, Values: values, Help: help, read: func(r *reading, v string) error {
			*to(&r.otel) = strings.TrimSpace(v)
			return nil
		}}
	}
	number := func(env string, initial, most int64, help string, to func(*otelText) *int64) Setting {
		return Setting{
			Env: env, Default: strconv.FormatInt(initial, 10), Values: fmt.Sprintf("1 to %d", most), Help: help,
			read: func(r *reading, v string) error { r.otel.readNumber(env, v, most, to(&r.otel)); return nil },
		}
	}
	const longest = int64(time.Hour / time.Millisecond)
	return []Setting{
		text("OTEL_EXPORTER_OTLP_ENDPOINT", "", "http://host:port",
			"Where traces are sent; they are off without it, and with OTEL_TRACES_EXPORTER=none.",
			func(t *otelText) *string { return &t.endpoint }),
		text("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "", "http://host:port/path", "The same, with the whole path over HTTP.",
			func(t *otelText) *string { return &t.tracesEndpoint }),
		{
			Env: "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", Aliases: []string{"OTEL_EXPORTER_OTLP_PROTOCOL"},
			Default: string(telemetry.TraceHTTP), Values: "grpc or http/protobuf", Help: "How traces are sent.",
			read: func(r *reading, v string) error {
				r.otel.protocol, r.otel.protocolName = strings.TrimSpace(v), r.name
				return nil
			},
		},
		text("OTEL_TRACES_EXPORTER", "", "otlp or none", "otlp sends traces to this host where no endpoint is set.",
			func(t *otelText) *string { return &t.exporter }),
		text(envDisabled, "false", "true or false", "true switches traces off whatever else is set.",
			func(t *otelText) *string { return &t.disabled }),
		text(envSampler, "parentbased_always_on", "[parentbased_]always_on, always_off or traceidratio", "Which traces are kept.",
			func(t *otelText) *string { return &t.sampler }),
		text(envSamplerArg, "1", "0 to 1", "The share of traces that traceidratio keeps.",
			func(t *otelText) *string { return &t.arg }),
		text("OTEL_SERVICE_NAME", serviceName, "a name", "The service's name in traces.",
			func(t *otelText) *string { return &t.service }),
		text(envAttributes, "", "key=value, several with commas", "What else traces say of this process.",
			func(t *otelText) *string { return &t.attributes }),
		number("OTEL_BSP_MAX_QUEUE_SIZE", traceQueue, telemetry.MaxTraceQueue, "Spans that may wait to be sent; more are dropped.",
			func(t *otelText) *int64 { return &t.queue }),
		number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", traceBatch, telemetry.MaxTraceQueue, "Spans that are sent at once.",
			func(t *otelText) *int64 { return &t.batch }),
		number("OTEL_BSP_SCHEDULE_DELAY", traceDelay.Milliseconds(), longest, "How long a span waits for others, in milliseconds.",
			func(t *otelText) *int64 { return &t.delayMs }),
		number("OTEL_BSP_EXPORT_TIMEOUT", traceLimit.Milliseconds(), longest, "How long spans may take to be sent, in milliseconds.",
			func(t *otelText) *int64 { return &t.limitMs }),
	}
}

// ignored notes that a variable is wrong and not in force.
func (t *otelText) ignored(env, value, why string) {
	t.warnings = append(t.warnings, fmt.Sprintf("%s=%q %s: it is ignored", env, value, why))
}

func (t *otelText) readNumber(env, value string, most int64, to *int64) {
	n, err := readInt(value, 1, most)
	if err != nil {
		t.ignored(env, value, err.Error())
		return
	}
	*to = n
}

// finish puts together whether, where and how traces are sent. It returns nil if they are not.
func (t *otelText) finish() (*telemetry.TraceOptions, error) {
	wanted, err := t.wanted()
	if err != nil || !wanted {
		return nil, err
	}
	opt := &telemetry.TraceOptions{
		Protocol: telemetry.TraceProtocol(t.protocol),
		Queue:    int(or(t.queue, traceQueue)),
		Delay:    time.Duration(or(t.delayMs, traceDelay.Milliseconds())) * time.Millisecond,
		Limit:    time.Duration(or(t.limitMs, traceLimit.Milliseconds())) * time.Millisecond,
	}
	opt.Batch = min(int(or(t.batch, traceBatch)), opt.Queue)
	switch opt.Protocol {
	case "":
		opt.Protocol = telemetry.TraceHTTP
	case telemetry.TraceGRPC, telemetry.TraceHTTP:
	default:
		return nil, fmt.Errorf("%s=%q is not spoken: write grpc or http/protobuf", t.protocolName, t.protocol)
	}
	if opt.Endpoint, err = t.place(opt.Protocol); err != nil {
		return nil, err
	}
	opt.Sampler = t.findSampler()
	opt.Resource = t.resource()
	return opt, nil
}

// or is n, or the default if n was not set.
func or(n, initial int64) int64 {
	if n == 0 {
		return initial
	}
	return n
}

// wanted tells whether traces are on.
func (t *otelText) wanted() (bool, error) {
	switch strings.ToLower(t.disabled) {
	case "true":
		return false, nil
	case "", "false":
	default:
		t.ignored(envDisabled, t.disabled, "is not true or false")
	}
	switch t.exporter {
	case "none":
		return false, nil
	case "otlp":
		return true, nil
	case "":
		return t.endpoint != "" || t.tracesEndpoint != "", nil
	default:
		return false, fmt.Errorf("OTEL_TRACES_EXPORTER=%q is not known: write otlp or none", t.exporter)
	}
}

// place is the URL that traces are sent to.
func (t *otelText) place(protocol telemetry.TraceProtocol) (string, error) {
	switch {
	case t.tracesEndpoint != "":
		u, err := readEndpoint("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", t.tracesEndpoint)
		if err != nil {
			return "", err
		}
		if u.Path == "" {
			u.Path = "/"
		}
		return u.String(), nil
	case t.endpoint != "":
		u, err := readEndpoint("OTEL_EXPORTER_OTLP_ENDPOINT", t.endpoint)
		if err != nil {
			return "", err
		}
		u.Path = path.Join("/", u.Path, tracesPath)
		return u.String(), nil
	case protocol == telemetry.TraceGRPC:
		return "http://localhost:4317" + tracesPath, nil
	default:
		return "http://localhost:4318" + tracesPath, nil
	}
}

// readEndpoint reads a URL. Its error does not repeat the value: a password may stand in it.
func readEndpoint(env, text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("%s is not a URL that traces can be sent to: write http://host:port or https://host:port", env)
	}
	if u.User != nil {
		return nil, fmt.Errorf("%s holds a user: write what the collector asks for into OTEL_EXPORTER_OTLP_HEADERS", env)
	}
	return u, nil
}

// findSampler is what the sampler's name and argument say.
func (t *otelText) findSampler() sdktrace.Sampler {
	name, parentBased := strings.CutPrefix(strings.ToLower(t.sampler), "parentbased_")
	var root sdktrace.Sampler
	switch name {
	case "always_on":
		root = sdktrace.AlwaysSample()
	case "always_off":
		root = sdktrace.NeverSample()
	case "traceidratio":
		root = sdktrace.TraceIDRatioBased(t.ratio())
	default:
		if t.sampler != "" {
			t.ignored(envSampler, t.sampler, "is not known")
		}
		root, parentBased = sdktrace.AlwaysSample(), true
	}
	if parentBased {
		return sdktrace.ParentBased(root)
	}
	return root
}

// ratio is the sampler's argument.
func (t *otelText) ratio() float64 {
	if t.arg == "" {
		return 1
	}
	share, err := strconv.ParseFloat(t.arg, 64)
	if err != nil || !(share >= 0 && share <= 1) {
		t.ignored(envSamplerArg, t.arg, "is not a number from 0 to 1")
		return 1
	}
	return share
}

// resource is what traces say of this process.
func (t *otelText) resource() []attribute.KeyValue {
	attrs := []attribute.KeyValue{
		attribute.String("service.name", serviceName),
		attribute.String("service.version", Build().Version),
	}
	more, err := readAttributes(t.attributes)
	if err != nil {
		t.ignored(envAttributes, t.attributes, err.Error())
	}
	attrs = append(attrs, more...) // of two that are alike the last one counts
	if t.service != "" {
		attrs = append(attrs, attribute.String("service.name", t.service))
	}
	return attrs
}

// errAttribute says that an attribute cannot be read.
var errAttribute = errors.New("is not a list of key=value, with what is special as %XX")

// readAttributes reads a list of key=value, all of it or nothing.
func readAttributes(text string) ([]attribute.KeyValue, error) {
	var attrs []attribute.KeyValue
	for _, item := range splitList(text) {
		name, value, ok := strings.Cut(item, "=")
		name = strings.TrimSpace(name)
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if !ok || name == "" || err != nil || len(attrs) == maxAttributes {
			return nil, errAttribute
		}
		attrs = append(attrs, attribute.String(name, value))
	}
	return attrs, nil
}
