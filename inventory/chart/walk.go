package chart

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// walker reads a JSON document value by value and knows at any moment where it is, so that an error can name the path.
// encoding/json's own decoding into structs accepts repeated and misspelt keys and forgets array indices.
type walker struct {
	dec  *json.Decoder
	path []step
}

type step struct {
	key   string
	index int // -1: key
}

func newWalker(document []byte) *walker {
	dec := json.NewDecoder(bytes.NewReader(document))
	dec.UseNumber()
	return &walker{dec: dec}
}

// where is the JSON pointer of the present value.
func (w *walker) where() string {
	var b strings.Builder
	for _, s := range w.path {
		b.WriteByte('/')
		if s.index >= 0 {
			b.WriteString(strconv.Itoa(s.index))
		} else {
			b.WriteString(strings.NewReplacer("~", "~0", "/", "~1").Replace(s.key))
		}
	}
	return b.String()
}

func (w *walker) refuse(value, problem string, args ...any) error {
	return refuse(w.where(), value, problem, args...)
}

// syntax turns a decoder's error into one that names line and column.
func syntax(document []byte, err error) error {
	var s *json.SyntaxError
	if !errors.As(err, &s) {
		return refuse("", "", "not a JSON document: %v", err)
	}
	before := document[:min(int(s.Offset), len(document))]
	line := 1 + bytes.Count(before, []byte{'\n'})
	column := len(before) - (bytes.LastIndexByte(before, '\n') + 1)
	return refuse("", "", "not a JSON document: line %d, column %d: %v", line, column, err)
}

func (w *walker) token() (json.Token, error) {
	t, err := w.dec.Token()
	if err != nil {
		return nil, w.refuse("", "not readable as JSON: %v", err)
	}
	return t, nil
}

func show(t json.Token) string {
	switch v := t.(type) {
	case json.Delim:
		if v == '{' {
			return "an object"
		}
		return "an array"
	case string:
		return quote(v)
	case nil:
		return "null"
	}
	return fmt.Sprint(t)
}

// object reads one object; member must consume the value of each key it returns nil for.
func (w *walker) object(member func(key string) error) error {
	t, err := w.token()
	if err != nil {
		return err
	}
	if t != json.Delim('{') {
		return w.refuse(show(t), "an object is needed here")
	}
	return w.members(member)
}

func (w *walker) members(member func(key string) error) error {
	seen := make(map[string]bool, 8)
	for w.dec.More() {
		t, err := w.token()
		if err != nil {
			return err
		}
		key := t.(string) // the decoder guarantees it
		w.path = append(w.path, step{key: key, index: -1})
		if seen[key] {
			return w.refuse("", "this key occurs twice")
		}
		seen[key] = true
		if err := member(key); err != nil {
			return err
		}
		w.path = w.path[:len(w.path)-1]
	}
	_, err := w.token()
	return err
}

// array reads one array of at most most elements.
func (w *walker) array(most int, element func(i int) error) error {
	t, err := w.token()
	if err != nil {
		return err
	}
	if t != json.Delim('[') {
		return w.refuse(show(t), "an array is needed here")
	}
	for i := 0; w.dec.More(); i++ {
		if i == most {
			return w.refuse("", "more than %d elements", most)
		}
		w.path = append(w.path, step{index: i})
		if err := element(i); err != nil {
			return err
		}
		w.path = w.path[:len(w.path)-1]
	}
	_, err = w.token()
	return err
}

func (w *walker) unknown() error { return w.refuse("", "unknown key") }

func (w *walker) missing(key string) error {
	return refuse(w.where()+"/"+key, "", "missing")
}

func (w *walker) text(into *string, most int, required bool) error {
	t, err := w.token()
	if err != nil {
		return err
	}
	s, ok := t.(string)
	if !ok {
		return w.refuse(show(t), "a string is needed here")
	}
	if !textOK(s, most, required) {
		return text(w.where(), s, most, required)
	}
	*into = s
	return nil
}

// textOrNull is text for keys that may also be null, which counts as "".
func (w *walker) textOrNull(into *string, most int) error {
	t, err := w.token()
	if err != nil {
		return err
	}
	switch s := t.(type) {
	case nil:
		*into = ""
		return nil
	case string:
		*into = s
		return text(w.where(), s, most, false)
	}
	return w.refuse(show(t), "a string or null is needed here")
}

func (w *walker) number(into *float64) error {
	t, err := w.token()
	if err != nil {
		return err
	}
	n, ok := t.(json.Number)
	if !ok {
		return w.refuse(show(t), "a number is needed here")
	}
	f, err := n.Float64()
	if err != nil || !coordinateOK(f) {
		return w.refuse(n.String(), "not a number between -%d and %d", MaxCoordinate, MaxCoordinate)
	}
	*into = f
	return nil
}

func (w *walker) size(into *float64) error {
	if err := w.number(into); err != nil {
		return err
	}
	if *into < 0 {
		return w.refuse(fmt.Sprint(*into), "must not be negative")
	}
	return nil
}

func (w *walker) integer(into *int, least, most int) error {
	var f float64
	if err := w.number(&f); err != nil {
		return err
	}
	if f != math.Trunc(f) || f < float64(least) || f > float64(most) {
		return w.refuse(fmt.Sprint(f), "not a whole number between %d and %d", least, most)
	}
	*into = int(f)
	return nil
}

func (w *walker) flag(into *bool) error {
	t, err := w.token()
	if err != nil {
		return err
	}
	b, ok := t.(bool)
	if !ok {
		return w.refuse(show(t), "true or false is needed here")
	}
	*into = b
	return nil
}
