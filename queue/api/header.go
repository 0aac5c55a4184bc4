package api

import (
	"net/http"
	"net/url"
)

// escape makes a person's words fit for a header.
func escape(s string) string { return url.PathEscape(s) }

// reason reads such words back; what is not escaped is taken as it is.
func reason(r *http.Request) string {
	v := r.Header.Get(HeaderReason)
	if s, err := url.PathUnescape(v); err == nil {
		return s
	}
	return v
}
