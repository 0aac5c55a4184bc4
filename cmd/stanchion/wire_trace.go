package main

import (
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// traced makes one span for each request of a net/http role, as a child of the caller's.
func (p *plant) traced(part string, next http.Handler) http.Handler {
	if !p.tracing.Enabled() {
		return next
	}
	tracer := p.tracing.Tracer(part)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := p.tracing.Propagator.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		ctx, span := tracer.Start(ctx, r.Method+" "+part, trace.WithSpanKind(trace.SpanKindServer),
			trace.WithAttributes(attribute.String("http.request.method", r.Method), attribute.String("url.path", r.URL.Path)))
		defer span.End()
		defer func() {
			if v := recover(); v != nil {
				span.SetStatus(codes.Error, "panic")
				panic(v)
			}
		}()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// tracer makes the spans of one part; nil while tracing is off.
func (p *plant) tracer(part string) trace.Tracer {
	if !p.tracing.Enabled() {
		return nil
	}
	return p.tracing.Tracer(part)
}
