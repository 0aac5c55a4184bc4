package desk

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// MaxDocumentBytes bounds a settings document that is given to the desk.
const MaxDocumentBytes = 128 << 10

// maxKeys bounds the leaves of a document, for comparing.
const maxKeys = 20_000

// Change is one key that differs between two documents.
type Change struct {
	Key     string `json:"key"`
	From    string `json:"from" doc:"Value before; empty: absent."`
	To      string `json:"to" doc:"Value after; empty: absent."`
	Allowed string `json:"allowed,omitempty" doc:"Allowed range."`
}

// decode reads a document: one JSON object, numbers as they are written.
func decode(doc []byte) (map[string]any, error) {
	if len(doc) > MaxDocumentBytes {
		return nil, &Invalid{[]Problem{{Key: "(document)", Value: fmt.Sprintf("%d bytes", len(doc)), Want: fmt.Sprintf("at most %d bytes", MaxDocumentBytes)}}}
	}
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.UseNumber()
	var m map[string]any
	err := dec.Decode(&m)
	if err == nil {
		if _, more := dec.Token(); more != io.EOF {
			err = fmt.Errorf("something follows the document")
		}
	}
	if err != nil {
		return nil, &Invalid{[]Problem{{Key: "(document)", Value: err.Error(), Want: "a JSON object"}}}
	}
	if m == nil {
		return nil, &Invalid{[]Problem{{Key: "(document)", Value: "null", Want: "a JSON object"}}}
	}
	return m, nil
}

// Edit returns doc with values set at dotted paths. A path runs through objects only; missing ones are made. The error is a
// *Invalid.
func Edit(doc []byte, edits map[string]any) ([]byte, error) {
	m, err := decode(doc)
	if err != nil {
		return nil, err
	}
	for _, key := range slices.Sorted(maps.Keys(edits)) {
		at := m
		path := strings.Split(key, ".")
		for i, name := range path[:len(path)-1] {
			inner, ok := at[name].(map[string]any)
			if !ok {
				if at[name] != nil {
					return nil, &Invalid{[]Problem{{Key: key, Value: strings.Join(path[:i+1], ".") + " is no object", Want: "a key of the document"}}}
				}
				inner = map[string]any{}
				at[name] = inner
			}
			at = inner
		}
		at[path[len(path)-1]] = edits[key]
	}
	out, err := json.Marshal(m)
	if err != nil {
		return nil, &Invalid{[]Problem{{Key: "(document)", Value: err.Error(), Want: "values that JSON can hold"}}}
	}
	return out, nil
}

// Values is a document's scalar leaves as text, by path.
func Values(doc []byte) (map[string]string, error) {
	m, err := decode(doc)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	if !flatten("", m, out) {
		return nil, &Invalid{[]Problem{{Key: "(document)", Value: "too many keys", Want: fmt.Sprintf("at most %d", maxKeys)}}}
	}
	return out, nil
}

func flatten(at string, v any, out map[string]string) bool {
	if len(out) >= maxKeys {
		return false
	}
	switch v := v.(type) {
	case map[string]any:
		for name, inner := range v {
			if !flatten(strings.TrimPrefix(at+"."+name, "."), inner, out) {
				return false
			}
		}
	case []any:
		for i, inner := range v {
			if !flatten(fmt.Sprintf("%s[%d]", at, i), inner, out) {
				return false
			}
		}
	case string:
		out[at] = v
	case json.Number:
		out[at] = v.String()
		if f, err := v.Float64(); err == nil && strings.ContainsAny(v.String(), ".eE") {
			out[at] = number(f) // 2.0 and 2 are the same
		}
	case nil:
	default:
		out[at] = fmt.Sprint(v)
	}
	return true
}

var index = regexp.MustCompile(`\[\d+\]`)

// Diff lists the keys that differ, by name. Secret values are not shown; documents that cannot be read count as empty.
func Diff(from, to []byte, fields []Field) []Change {
	a, _ := Values(from) // an unreadable version in the history must not hide the readable one beside it
	b, _ := Values(to)
	out := []Change{}
	for _, key := range slices.Sorted(maps.Keys(union(a, b))) {
		if a[key] == b[key] {
			continue
		}
		c := Change{Key: key, From: a[key], To: b[key]}
		plain := index.ReplaceAllString(key, "")
		if f, ok := find(fields, plain); ok {
			c.Allowed = f.Allowed()
			if f.Secret {
				c.From, c.To = hide(c.From), hide(c.To)
			}
		}
		out = append(out, c)
	}
	return out
}

func union(a, b map[string]string) map[string]string {
	out := maps.Clone(a)
	if out == nil {
		out = map[string]string{}
	}
	maps.Copy(out, b)
	return out
}

func hide(v string) string {
	if v == "" {
		return ""
	}
	return "(secret)"
}

func find(fields []Field, key string) (Field, bool) {
	i := slices.IndexFunc(fields, func(f Field) bool { return f.Key == key })
	if i < 0 {
		return Field{}, false
	}
	return fields[i], true
}

// Parse reads a field's value as a form or a query gives it. problem says what is allowed; nil: v is right.
func (f Field) Parse(text string) (v any, problem *Problem) {
	bad := &Problem{Key: f.Key, Value: clip(text), Want: f.Allowed()}
	switch f.Kind {
	case Integer:
		n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
		if err != nil || float64(n) < f.Min || float64(n) > f.Max {
			return nil, bad
		}
		return n, nil
	case Number:
		n, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
		if err != nil || !(n >= f.Min && n <= f.Max) { // also refuses NaN
			return nil, bad
		}
		return n, nil
	case Flag:
		switch text {
		case "true", "on":
			return true, nil
		case "false", "":
			return false, nil
		}
		return nil, bad
	case Choice:
		if !slices.Contains(f.Choices, text) {
			return nil, bad
		}
		return text, nil
	}
	text = strings.ReplaceAll(text, "\r\n", "\n") // what browsers make of a line end
	if strings.ToValidUTF8(text, "") != text || f.MaxLength > 0 && len([]rune(text)) > f.MaxLength {
		return nil, bad
	}
	return text, nil
}

// clip bounds a text that is shown back.
func clip(s string) string {
	const most = 80
	s = strings.ToValidUTF8(s, "\uFFFD")
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}

// number is a number without needless digits.
func number(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
