package config

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

// Digest is "sha256:" and the hash of the effective configuration, however it was written: two processes with the same
// digest run with the same settings.
func (c Config) Digest() string {
	canonical, err := json.Marshal(c) // fields in the struct's order, map keys sorted
	if err != nil {
		return "" // not reached: no value of Config is unencodable once Load has refused NaN
	}
	sum := sha256.Sum256(canonical)
	return "sha256:" + hex.EncodeToString(sum[:])
}

const mask = "********"

// Masked is the effective configuration as YAML, with secrets replaced by asterisks.
func (c Config) Masked() ([]byte, error) {
	v := maskValue(reflect.ValueOf(c), false)
	text, err := yaml.MarshalWithOptions(v.Interface(), yaml.UseJSONMarshaler(), yaml.Indent(2))
	if err != nil {
		return nil, fmt.Errorf("encode configuration: %w", err)
	}
	return text, nil
}

// maskValue is a deep copy of v without secrets.
func maskValue(v reflect.Value, secret bool) reflect.Value {
	made := reflect.New(v.Type()).Elem()
	switch v.Kind() {
	case reflect.Struct:
		for _, f := range schema(v.Type()) {
			made.Field(f.index).Set(maskValue(v.Field(f.index), secret || f.secret))
		}
	case reflect.Map:
		made.Set(reflect.MakeMap(v.Type()))
		for it := v.MapRange(); it.Next(); {
			made.SetMapIndex(it.Key(), maskValue(it.Value(), secret))
		}
	case reflect.Slice:
		made.Set(reflect.MakeSlice(v.Type(), 0, v.Len()))
		for i := range v.Len() {
			made.Set(reflect.Append(made, maskValue(v.Index(i), secret)))
		}
	case reflect.String:
		text := v.String()
		switch {
		case secret && text != "":
			text = mask
		case hasUserInfo(text): // Load refuses these; a Config made in code may still hold one
			if u, err := url.Parse(text); err == nil {
				text = u.Redacted()
			} else {
				text = mask
			}
		}
		made.SetString(text)
	default:
		made.Set(v)
	}
	return made
}

// Change is one key that differs between two configurations.
type Change struct {
	Key      string
	Old, New string // "********" for secrets
	Hot      bool   // takes effect without a restart
}

// Changes lists what differs from old to new, by key.
func Changes(old, new Config) []Change {
	before, after := flatten(old), flatten(new)
	var all []Change
	for key, a := range after {
		if b, ok := before[key]; !ok || b.text != a.text {
			all = append(all, Change{Key: key, Old: b.shown(), New: a.shown(), Hot: a.hot})
		}
	}
	for key, b := range before {
		if _, ok := after[key]; !ok {
			all = append(all, Change{Key: key, Old: b.shown(), Hot: b.hot})
		}
	}
	slices.SortFunc(all, func(a, b Change) int { return strings.Compare(a.Key, b.Key) })
	return all
}

type leaf struct {
	text        string
	hot, secret bool
}

func (l leaf) shown() string {
	if l.secret && l.text != "" {
		return mask
	}
	return l.text
}

func flatten(c Config) map[string]leaf {
	leaves := map[string]leaf{}
	var walk func(v reflect.Value, f field, path string)
	walk = func(v reflect.Value, f field, path string) {
		switch v.Kind() {
		case reflect.Struct:
			for _, inner := range schema(v.Type()) {
				inner.secret = inner.secret || f.secret
				walk(v.Field(inner.index), inner, join(path, inner.name))
			}
		case reflect.Map:
			for it := v.MapRange(); it.Next(); {
				walk(it.Value(), f, join(path, it.Key().String()))
			}
		case reflect.Slice:
			for i := range v.Len() {
				walk(v.Index(i), f, fmt.Sprintf("%s[%d]", path, i))
			}
		default:
			leaves[path] = leaf{text: fmt.Sprint(v.Interface()), hot: f.hot, secret: f.secret}
		}
	}
	walk(reflect.ValueOf(c), field{}, "")
	return leaves
}
