package config

import (
	"reflect"
	"strconv"
)

// Described is one scalar key of a room's settings document as a form shows it.
type Described struct {
	Key       string // path in the document, with dots
	Kind      string // integer, number, text, flag or choice
	Min, Max  float64
	MaxLength int
	Choices   []string
	Default   string
	Doc       string
	Secret    bool
}

// DescribeRoom lists the scalar keys of a room's settings document that may be changed while the room runs, in the order of the
// reference. It is what the console's form is made from.
func DescribeRoom() []Described { return describe(reflect.TypeFor[Room](), "") }

func describe(t reflect.Type, path string) (out []Described) {
	for _, f := range schema(t) {
		key := path + f.name
		if f.kind.Kind() == reflect.Struct {
			out = append(out, describe(f.kind, key+".")...)
			continue
		}
		if !f.hot {
			continue
		}
		d := Described{Key: key, Default: f.def, Doc: f.doc, Secret: f.secret, Choices: f.enum, MaxLength: f.length[1]}
		switch {
		case len(f.enum) > 0:
			d.Kind = "choice"
		case f.kind.Kind() == reflect.Bool:
			d.Kind = "flag"
		case f.kind.Kind() == reflect.String:
			d.Kind = "text"
		case f.kind.Kind() == reflect.Int, f.kind.Kind() == reflect.Int64, f.kind.Kind() == reflect.Uint64:
			d.Kind = "integer"
		case f.kind.Kind() == reflect.Float64:
			d.Kind = "number"
		default:
			continue // lists have no form yet
		}
		if d.Kind == "integer" || d.Kind == "number" {
			d.Min, _ = strconv.ParseFloat(f.limits[0], 64) // tags are tested: no bound reads as 0
			d.Max, _ = strconv.ParseFloat(f.limits[1], 64)
		}
		out = append(out, d)
	}
	return out
}
