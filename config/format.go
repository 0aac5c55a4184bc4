package config

import (
	"encoding/hex"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
)

// format is a named check of a text.
type format struct {
	words string // what it accepts, for messages and the reference
	ok    func(string) bool
}

// formats are the checks that `format` tags name. The map is never changed.
var formats = map[string]format{
	"address":     {"host:port", isAddress},
	"url":         {"http:// or https:// URL without user, password, query or fragment", isURL},
	"cidr":        {"network as a.b.c.d/n or IPv6", func(s string) bool { _, err := netip.ParsePrefix(s); return err == nil }},
	"path":        {"path that begins with /", func(s string) bool { return strings.HasPrefix(s, "/") && isVisible(s) }},
	"prefix":      {"path of letters, digits, . _ - that begins with / and does not end with it", match(`^(/[A-Za-z0-9._-]+)+$`)},
	"pattern":     {"path that begins with /, with at most one *, at its end", isPattern},
	"name":        {"a-z, 0-9 and -, 1 to 32 characters", match(`^[a-z0-9-]{1,32}$`)},
	"label":       {"letters, digits, . _ -, at most 128 characters", match(`^[A-Za-z0-9._-]{1,128}$`)},
	"topic":       {"letters, digits, . _ -, at most 100 characters", match(`^[A-Za-z0-9._-]{1,100}$`)},
	"ident":       {"letter, then letters, digits, _, at most 48 characters", match(`^[A-Za-z][A-Za-z0-9_]{0,47}$`)},
	"kvpath":      {"names joined by /", match(`^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$`)},
	"host":        {"host name or IP address, without port", isHost},
	"hostpattern": {"host name, IP address, or *. and a host name", func(s string) bool { return isHost(strings.TrimPrefix(s, "*.")) }},
	"file":        {"path of a file or directory", isVisible},
	"token":       {"HTTP token", httpguts.ValidHeaderFieldName},
	"method":      {"HTTP method in capitals", isMethod},
	"header":      {"HTTP header name", httpguts.ValidHeaderFieldName},
	"time":        {"RFC 3339 time, e.g. 2027-05-01T10:00:00Z", func(s string) bool { _, err := time.Parse(time.RFC3339Nano, s); return err == nil }},
	"hex32":       {"64 hexadecimal digits", func(s string) bool { b, err := hex.DecodeString(s); return err == nil && len(b) == 32 }},
	"colour":      {"#rrggbb", match(`^#[0-9a-fA-F]{6}$`)},
	"currency":    {"three capitals", match(`^[A-Z]{3}$`)},
	"country":     {"two capitals", match(`^[A-Z]{2}$`)},
	"role":        {"edge, queue, core, inventory, admin or psp-simulator", isRole},
}

func match(expression string) func(string) bool {
	return regexp.MustCompile(expression).MatchString
}

func isVisible(s string) bool {
	return s != "" && len(s) <= 4096 && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

func isAddress(s string) bool {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return false
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return false
	}
	return host == "" || isHost(host)
}

var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?)*$`)

func isHost(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	return len(s) <= 253 && hostName.MatchString(s)
}

func isURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && isHost(u.Hostname()) && u.User == nil &&
		u.RawQuery == "" && u.Fragment == "" && (u.Port() == "" || isAddress(u.Host)) && isVisible(s)
}

// hasUserInfo tells whether s is a URL that carries a user or password, which no message may repeat.
func hasUserInfo(s string) bool {
	_, rest, ok := strings.Cut(s, "://")
	authority, _, _ := strings.Cut(rest, "/")
	return ok && strings.Contains(authority, "@")
}

func isPattern(s string) bool {
	star := strings.IndexByte(s, '*')
	return strings.HasPrefix(s, "/") && isVisible(s) && (star < 0 || star == len(s)-1)
}

func isMethod(s string) bool {
	switch s {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return true
	}
	return false
}

func isRole(s string) bool {
	for _, r := range append(AllRoles(), PSPSimulator) {
		if string(r) == s {
			return true
		}
	}
	return false
}
