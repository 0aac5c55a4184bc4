package telemetry

import (
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"regexp"
	"strings"
)

// NewLogger writes to w as "text" or "json". level may be moved while it runs. Secrets are masked on their way, as
// [Masked] describes; that is a net under careful callers, not a licence to log secrets.
func NewLogger(w io.Writer, level slog.Leveler, format string) *slog.Logger {
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr { return Masked(a) }}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

const mask = "********"

// secretNames are the keys whose texts are never written, in small letters without _ and -. Numbers under them are
// written: a controller's fencing token is no secret.
var secretNames = map[string]bool{
	"password": true, "passwd": true, "secret": true, "token": true, "ticket": true, "pass": true, "cookie": true,
	"setcookie": true, "authorization": true, "proxyauthorization": true, "stanchionpass": true, "apikey": true, "privatekey": true,
	"invite": true, "starttoken": true, "webhooksecret": true, "dsn": true,
}

var (
	userInfo = regexp.MustCompile(`(://)[^/\s"'@]*@`)                                        // scheme://user:password@host
	jwt      = regexp.MustCompile(`eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+`) // passes and log-in tokens
)

// Masked is a with its value hidden if its key names a secret (password, token, ticket, pass, cookie, …), and with the
// user part of URLs and JSON web tokens hidden wherever they stand in a text.
func Masked(a slog.Attr) slog.Attr {
	switch a.Value.Kind() {
	case slog.KindString:
		return slog.String(a.Key, maskText(a.Key, a.Value.String()))
	case slog.KindAny:
		switch v := a.Value.Any().(type) {
		case error:
			return slog.String(a.Key, maskText(a.Key, v.Error()))
		case fmt.Stringer:
			if secretName(a.Key) {
				return slog.String(a.Key, mask)
			}
			if u, ok := v.(*url.URL); ok && u != nil {
				return slog.String(a.Key, u.Redacted())
			}
		case []byte:
			return slog.String(a.Key, maskText(a.Key, string(v)))
		case nil, *slog.Source:
		default:
			if secretName(a.Key) {
				return slog.String(a.Key, mask)
			}
		}
	}
	return a
}

func secretName(key string) bool {
	return secretNames[strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(key))]
}

func maskText(key, text string) string {
	if secretName(key) {
		if text == "" {
			return ""
		}
		return mask
	}
	if strings.Contains(text, "://") {
		text = userInfo.ReplaceAllString(text, "${1}"+mask+"@")
	}
	if strings.Contains(text, "eyJ") {
		text = jwt.ReplaceAllString(text, mask)
	}
	return text
}
