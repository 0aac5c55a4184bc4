package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"path"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// TracingOptions configures NewTracing.
type TracingOptions struct {
	Endpoint    string        // OTLP/HTTP collector, http(s)://host:port[/path]; empty: off
	SampleRatio float64       // share of traces begun here, 0 to 1
	Timeout     time.Duration // of one export
	Service     string        // service.name
	Version     string        // service.version
	Node        string        // service.instance.id
	Logger      *slog.Logger  // told when the collector cannot be reached
}

// Tracing makes spans and carries them between processes.
type Tracing struct {
	Provider   trace.TracerProvider
	Propagator propagation.TextMapPropagator // W3C trace context
	Shutdown   func(context.Context) error   // sends what is left
}

// Enabled tells whether spans go anywhere.
func (t Tracing) Enabled() bool {
	_, off := t.Provider.(noop.TracerProvider)
	return t.Provider != nil && !off
}

// Tracer makes the spans of one part of the product, such as "edge".
func (t Tracing) Tracer(part string) trace.Tracer { return t.Provider.Tracer("stanchion/" + part) }

// NewTracing sets tracing up; with no endpoint every span is a no-op that costs next to nothing. It does not wait for
// the collector, and a collector that is gone costs dropped spans, never a request. OpenTelemetry has one error
// handler a process, which is set to write to o.Logger.
func NewTracing(ctx context.Context, o TracingOptions) (Tracing, error) {
	t := Tracing{Provider: noop.NewTracerProvider(), Propagator: propagation.TraceContext{}, Shutdown: func(context.Context) error { return nil }}
	if o.Endpoint == "" {
		return t, nil
	}
	u, err := url.Parse(o.Endpoint)
	if err != nil {
		return Tracing{}, fmt.Errorf("read tracing endpoint: %w", err)
	}
	exporter, err := otlptracehttp.New(ctx,
		otlptracehttp.WithEndpointURL(u.JoinPath(pathOfTraces(u.Path)).String()),
		otlptracehttp.WithTimeout(o.Timeout))
	if err != nil {
		return Tracing{}, fmt.Errorf("set up trace exporter: %w", err)
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { o.Logger.Warn("tracing", slog.Any("error", err)) }))
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter, sdktrace.WithMaxQueueSize(4096)),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(o.SampleRatio))),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", o.Service),
			attribute.String("service.version", o.Version),
			attribute.String("service.instance.id", o.Node))))
	t.Provider, t.Shutdown = provider, provider.Shutdown
	return t, nil
}

// pathOfTraces is what is still missing of the collector's path: operators give its base URL, or the whole.
func pathOfTraces(given string) string {
	if path.Base(given) == "traces" {
		return ""
	}
	return "v1/traces"
}
