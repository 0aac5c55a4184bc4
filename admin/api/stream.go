package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/stanchion-queue/stanchion/admin/desk"
)

// How a stream treats its reader.
const (
	writeTimeout = 5 * time.Second  // a reader that takes nothing this long is dropped
	heartbeat    = 10 * time.Second // without anything new, a comment keeps proxies and the reader's own clock content
	retryMS      = 2000             // a reader that was cut off comes back after this
)

// Stream sends a room's looks as server-sent events, each as event with the JSON that show makes of it, until the reader goes
// away, stops reading, or stop closes. The caller closes v.
//
// The server's own time limits are lifted for the connection; each write has one of its own instead.
func Stream(w http.ResponseWriter, r *http.Request, v *desk.Viewer, stop <-chan struct{}, event string, show func(desk.Look) any) {
	control := http.NewResponseController(w)
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx, if one stands between
	if err := control.SetReadDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return
	}
	send := func(text string) bool {
		if err := control.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return false
		}
		_, err := w.Write([]byte(text))
		if err == nil {
			err = control.Flush()
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			v.Dropped()
		}
		return err == nil
	}
	if !send(fmt.Sprintf("retry: %d\n\n", retryMS)) {
		return
	}
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		select {
		case <-r.Context().Done():
			return
		case <-stop:
			return
		case <-beat.C:
			if !send(": still here\n\n") {
				return
			}
		case look := <-v.Looks():
			data, err := json.Marshal(show(look))
			if err != nil || !send("event: "+event+"\ndata: "+string(data)+"\n\n") {
				return
			}
			beat.Reset(heartbeat)
		}
	}
}
