package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"

	"github.com/stanchion-queue/stanchion/admin/health"
	"github.com/stanchion-queue/stanchion/config"
)

// httpServer is a net/http server with a listener's limits. The caller serves and shuts it down.
func httpServer(c config.Listener, h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           recovered(http.MaxBytesHandler(h, c.BodyBytes), log),
		ReadHeaderTimeout: seconds(c.ReadHeaderS),
		ReadTimeout:       seconds(c.ReadS),
		WriteTimeout:      seconds(c.WriteS),
		IdleTimeout:       seconds(c.IdleS),
		MaxHeaderBytes:    c.HeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug), // clients that go away are no news
	}
}

// operations is the handler of the operations listener.
func (l *launch) operations() http.Handler {
	return health.NewHandler(health.Options{
		Board: l.board, Gatherer: l.registry, Version: l.version, Logger: l.log,
		Config: func() ([]byte, error) { return l.current.Load().Masked() },
		Digest: func() string { return l.current.Load().Digest() },
	})
}

// shutdown ends s gracefully, or at the end of ctx at once.
func shutdown(ctx context.Context, s *http.Server) error {
	err := s.Shutdown(ctx)
	if err != nil {
		return errors.Join(err, s.Close())
	}
	return nil
}

// recovered answers a request whose handler panicked and says so loudly: it is a fault of ours, and the process goes on.
func recovered(next http.Handler, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			v := recover()
			if v == nil {
				return
			}
			if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(v)
			}
			log.ErrorContext(r.Context(), "BUG: handler panicked", "method", r.Method, "path", r.URL.Path, "panic", v, "stack", string(debug.Stack()))
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = w.Write([]byte(`{"type":"/problems/internal","title":"Something went wrong on our side","status":500}`))
		}()
		next.ServeHTTP(w, r)
	})
}
