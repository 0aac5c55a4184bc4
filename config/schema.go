package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// field is one key of a struct, as its tags describe it.
type field struct {
	index    int
	name     string
	kind     reflect.Type
	doc      string
	def      string // YAML; hasDef tells "" from absent
	hasDef   bool
	limits   [2]string // low, high; empty: no bound
	enum     []string
	format   string
	length   [2]int // of a text in characters, of a list or map in items; [0 0]: no bound
	secret   bool
	hot      bool
	nullable bool // format accepts the empty text
}

// schema reads the tags of t's fields. A wrong tag is a mistake in this package, which the tests would show.
func schema(t reflect.Type) []field {
	fields := make([]field, 0, t.NumField())
	for i := range t.NumField() {
		sf := t.Field(i)
		f := field{index: i, name: sf.Tag.Get("json"), kind: sf.Type, doc: sf.Tag.Get("doc"),
			secret: sf.Tag.Get("secret") != "", hot: sf.Tag.Get("hot") != ""}
		f.def, f.hasDef = sf.Tag.Lookup("default")
		if r, ok := sf.Tag.Lookup("range"); ok {
			low, high, _ := strings.Cut(r, "..")
			f.limits = [2]string{low, high}
		}
		if e, ok := sf.Tag.Lookup("enum"); ok {
			f.enum = strings.Split(e, "|")
		}
		if l, ok := sf.Tag.Lookup("len"); ok {
			low, high, _ := strings.Cut(l, "..")
			f.length[0], _ = strconv.Atoi(low)
			f.length[1], _ = strconv.Atoi(high)
		}
		f.format, f.nullable = strings.CutSuffix(sf.Tag.Get("format"), "?")
		fields = append(fields, f)
	}
	return fields
}

// find is the field of that name. Flags may write - for _.
func find(fields []field, name string) (field, bool) {
	for _, f := range fields {
		if f.name == name || f.name == strings.ReplaceAll(name, "-", "_") {
			return f, true
		}
	}
	return field{}, false
}

func names(fields []field) []string {
	all := make([]string, len(fields))
	for i, f := range fields {
		all[i] = f.name
	}
	return all
}

// allowed says in words what f accepts.
func (f field) allowed() string {
	var parts []string
	switch {
	case len(f.enum) > 0:
		quoted := make([]string, 0, len(f.enum))
		for _, e := range f.enum {
			if e == "" {
				e = "(empty)"
			}
			quoted = append(quoted, e)
		}
		parts = append(parts, strings.Join(quoted, ", "))
	case f.limits != [2]string{}:
		parts = append(parts, f.limits[0]+" to "+f.limits[1])
	case f.kind.Kind() == reflect.Bool:
		parts = append(parts, "true, false")
	case f.kind.Kind() == reflect.Uint64:
		parts = append(parts, "0 to 18446744073709551615")
	}
	if f.format != "" {
		words := formats[f.format].words
		if f.nullable {
			words += ", or empty"
		}
		parts = append(parts, words)
	}
	if f.length != [2]int{} {
		switch f.kind.Kind() {
		case reflect.String:
			parts = append(parts, fmt.Sprintf("%d to %d characters", f.length[0], f.length[1]))
		default:
			parts = append(parts, fmt.Sprintf("%d to %d entries", f.length[0], f.length[1]))
		}
	}
	return strings.Join(parts, "; ")
}

// kindWord names f's type for people.
func kindWord(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64, reflect.Uint64:
		return "whole number"
	case reflect.Float64:
		return "number"
	case reflect.String:
		return "text"
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Struct {
			return "list of blocks"
		}
		return "list of " + kindWord(t.Elem()) + "s"
	case reflect.Map:
		return "block of named entries"
	}
	return "block of keys"
}
