package config

import (
	"flag"
	"os"
	"reflect"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write generated files")

func TestReferenceIsCurrent(t *testing.T) {
	const path = "../docs/reference/config.md"
	if *update {
		if err := os.WriteFile(path, []byte(Reference()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != Reference() {
		t.Errorf("%s is not what the program prints; run: go test ./config -run TestReferenceIsCurrent -update", path)
	}
}

// TestTags holds every key of the structs to the rules that the rest of the package relies on.
func TestTags(t *testing.T) {
	seen := map[reflect.Type]bool{}
	var walk func(typ reflect.Type, path string)
	walk = func(typ reflect.Type, path string) {
		if seen[typ] {
			return
		}
		seen[typ] = true
		for i := range typ.NumField() {
			sf := typ.Field(i)
			f := schema(typ)[i]
			at := join(path, f.name)
			if f.name == "" || f.name != strings.ToLower(f.name) || strings.ContainsAny(f.name, ",.-[") {
				t.Errorf("%s %s: json tag %q is no plain name", path, sf.Name, f.name)
			}
			if f.doc == "" && f.kind.Kind() != reflect.Struct || strings.ContainsAny(f.doc, "\n") {
				t.Errorf("%s: has no doc, or one of several lines", at)
			}
			for tag := range strings.SplitSeq(f.format, ":") {
				if _, ok := formats[tag]; tag != "" && !ok {
					t.Errorf("%s: format %q does not exist", at, tag)
				}
			}
			elem := f.kind
			switch f.kind.Kind() {
			case reflect.Map:
				if f.format == "" || f.kind.Key().Kind() != reflect.String {
					t.Errorf("%s: a map needs a format for its names", at)
				}
				elem = f.kind.Elem()
			case reflect.Slice:
				elem = f.kind.Elem()
			case reflect.Int, reflect.Int64, reflect.Float64:
				if f.limits[0] == "" || f.limits[1] == "" {
					t.Errorf("%s: a number needs a range", at)
				}
			case reflect.String:
				if f.format == "" && len(f.enum) == 0 && f.length == [2]int{} {
					t.Errorf("%s: a text needs a format, choices or a length", at)
				}
			}
			if k := f.kind.Kind(); (k == reflect.Slice || k == reflect.Map) && f.length[1] == 0 {
				t.Errorf("%s: a collection needs a bound", at)
			}
			switch elem.Kind() {
			case reflect.Struct:
				walk(elem, at)
			case reflect.Slice: // peers
			case reflect.String, reflect.Bool, reflect.Int, reflect.Int64, reflect.Uint64, reflect.Float64:
			default:
				t.Errorf("%s: kind %s cannot be bound", at, elem)
			}
		}
	}
	walk(reflect.TypeFor[Config](), "")
}

// TestDefaultsAreValid holds each default to its own key's rules.
func TestDefaultsAreValid(t *testing.T) {
	for _, typ := range []reflect.Type{reflect.TypeFor[Config](), reflect.TypeFor[Room](), reflect.TypeFor[Route](), reflect.TypeFor[Upstream](), reflect.TypeFor[Lane]()} {
		b := newBinder()
		b.setDefaults(reflect.New(typ).Elem())
		if err := b.problems.err(); err != nil {
			t.Errorf("defaults of %s: %v", typ, err)
		}
	}
}
