package config

import (
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// MaxFileBytes bounds the configuration file.
const MaxFileBytes = 1 << 20

// envPrefix begins every environment variable this program reads.
const envPrefix = "STANCHION_"

// Report tells how a Config came about.
type Report struct {
	File     string            // path of the file that was read; empty: none
	Digest   string            // Digest of the Config; empty when it is not valid
	Sources  map[string]Source // dotted key -> where its value came from; defaults are absent
	Warnings []string          // what is allowed, but should be known
}

// Source is where the value of a key came from, "default" when nothing set it.
func (r Report) Source(key string) Source { return sourceOf(r.Sources, key) }

// Base is a configuration that lies between the defaults and the operator's file: what a subcommand such as demo or
// edge --protect brings along.
type Base struct {
	Name string // in messages, e.g. "demo"
	YAML []byte
}

// Load makes a Config from command-line flags, the environment and a file. It is pure: the environment is "NAME=value"
// strings as of os.Environ, files are read by readFile (os.ReadFile).
//
// Arguments it understands: --config FILE (or STANCHION_CONFIG), --set key=value, and any key as --key=value; lists and
// blocks are YAML in flow style, or, for lists of texts, separated by commas. A variable's name is STANCHION_ and the
// key in capitals with _ for each dot and hyphen. Everything wrong is in the error, a [*Problems]; the Config is then
// of no use but for showing.
func Load(args, env []string, readFile func(string) ([]byte, error)) (Config, Report, error) {
	return LoadOver(Base{}, args, env, readFile)
}

// LoadOver is Load with a base under the file.
func LoadOver(base Base, args, env []string, readFile func(string) ([]byte, error)) (Config, Report, error) {
	var cfg Config
	b := newBinder()
	b.defaults(&cfg)
	if len(base.YAML) > 0 {
		b.document(base.Name, MaxFileBytes, base.YAML, "", &cfg)
	}

	flags := b.flags(args)
	report := Report{Sources: b.sources}
	var fileSource Source
	for _, e := range env {
		if text, ok := strings.CutPrefix(e, envPrefix+"CONFIG="); ok {
			report.File, fileSource = text, Source{Name: envPrefix + "CONFIG"}
		}
	}
	for _, f := range flags {
		if f.segments == nil {
			report.File, fileSource = f.text, f.src
		}
	}
	if report.File != "" {
		text, err := readFile(report.File)
		if err != nil {
			b.problems.add(Problem{Source: fileSource, What: "cannot read " + show(report.File) + ": " + reason(err), Do: "check the path and its permissions"})
		} else {
			b.document(report.File, MaxFileBytes, text, "", &cfg)
		}
	}
	for _, a := range slices.Concat(b.variables(env, cfg), flags) {
		if a.segments != nil {
			b.assign(&cfg, a.segments, a.text, a.src)
		}
	}

	report.Warnings = validate(&b.problems, b.sources, cfg)
	err := b.problems.err()
	if err == nil {
		report.Digest = cfg.Digest()
	}
	return cfg, report, err
}

// reason is the part of a file error that its path does not already say.
func reason(err error) string {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		return pathError.Err.Error()
	}
	return err.Error()
}

// assignment is one flag or variable. No segments: it names the file.
type assignment struct {
	segments []string
	text     string
	src      Source
}

// SplitArgs separates the flags that name configuration keys (any --a.b, and --key for keys of the top level) from
// the other arguments of a command line, which it leaves in order. Everything after a lone -- is left alone.
func SplitArgs(args []string) (keys, rest []string) {
	top := schema(reflect.TypeFor[Config]())
	for i := 0; i < len(args); i++ {
		if args[i] == "--" {
			return keys, append(rest, args[i:]...)
		}
		name, isFlag := strings.CutPrefix(args[i], "--")
		name, _, hasValue := strings.Cut(name, "=")
		_, isKey := find(top, name)
		if !isFlag || !isKey && !strings.Contains(name, ".") {
			rest = append(rest, args[i])
			continue
		}
		keys = append(keys, args[i])
		if !hasValue && i+1 < len(args) && !strings.HasPrefix(args[i+1], "--") {
			i++
			keys[len(keys)-1] += "=" + args[i]
		}
	}
	return keys, rest
}

// flags reads Load's arguments.
func (b *binder) flags(args []string) []assignment {
	var all []assignment
	for i := 0; i < len(args); i++ {
		name, isFlag := strings.CutPrefix(args[i], "--")
		if !isFlag || name == "" {
			b.problems.add(Problem{Source: Source{Name: "command line"}, What: "does not understand " + show(args[i]), Do: "write flags as --key=value"})
			continue
		}
		name, text, hasValue := strings.Cut(name, "=")
		if !hasValue {
			if i+1 >= len(args) || strings.HasPrefix(args[i+1], "--") {
				b.problems.add(Problem{Source: Source{Name: "--" + clip(name)}, What: "has no value", Do: fmt.Sprintf("write --%s=value", clip(name))})
				continue
			}
			i++
			text = args[i]
		}
		src := Source{Name: "--" + clip(name)}
		switch name {
		case "config":
			all = append(all, assignment{text: text, src: src})
			continue
		case "set":
			key, value, ok := strings.Cut(text, "=")
			if !ok {
				b.problems.add(Problem{Source: src, Value: show(text), What: "has no =", Do: "write --set key=value"})
				continue
			}
			name, text, src = key, value, Source{Name: "--set " + clip(key)}
		}
		all = append(all, assignment{segments: strings.Split(name, "."), text: text, src: src})
	}
	return all
}

// serviceLink matches the variables that Kubernetes makes for a Service called stanchion or stanchion-…: they look
// like ours and are not.
var serviceLink = regexp.MustCompile(`_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`)

// variables reads the environment. STANCHION_TEST_… belongs to the tests. As _ stands for a dot and for a hyphen, a
// variable may name keys of several entries (rooms.a.outage_mode, rooms.a-outage.mode); then the one that cfg has counts.
func (b *binder) variables(env []string, cfg Config) []assignment {
	var all []assignment
	for _, e := range env {
		name, text, _ := strings.Cut(e, "=")
		rest, ours := strings.CutPrefix(name, envPrefix)
		if !ours || rest == "CONFIG" || strings.HasPrefix(rest, "TEST_") {
			continue
		}
		src := Source{Name: clip(name)}
		paths := b.variablePaths(reflect.TypeFor[Config](), rest)
		deepest := 0
		for _, p := range paths {
			deepest = max(deepest, len(p))
		}
		paths = slices.DeleteFunc(paths, func(p []string) bool { return len(p) < deepest })
		if len(paths) > 1 {
			if there := slices.DeleteFunc(slices.Clone(paths), func(p []string) bool { return !has(reflect.ValueOf(cfg), p) }); len(there) > 0 {
				paths = there
			}
		}
		switch {
		case len(paths) == 1:
			all = append(all, assignment{segments: paths[0], text: text, src: src})
		case len(paths) > 1:
			b.problems.add(Problem{Source: src, What: "could mean " + strings.Join(paths[0], ".") + " or " + strings.Join(paths[1], "."), Do: "use a flag or the file"})
		case serviceLink.MatchString(name):
		default:
			b.problems.add(Problem{Source: src, What: "names no key", Do: cmpOr(b.nearVariable(rest), "see the reference for all keys, or unset it")})
		}
	}
	slices.SortStableFunc(all, func(a, b assignment) int { // os.Environ has no order that means anything; outer keys go first
		if d := len(a.segments) - len(b.segments); d != 0 {
			return d
		}
		return strings.Compare(a.src.Name, b.src.Name)
	})
	return all
}

// has tells whether v has the named entries along path.
func has(v reflect.Value, path []string) bool {
	for _, segment := range path {
		switch v.Kind() {
		case reflect.Struct:
			f, ok := find(schema(v.Type()), segment)
			if !ok {
				return false
			}
			v = v.Field(f.index)
		case reflect.Map:
			if v = v.MapIndex(reflect.ValueOf(segment)); !v.IsValid() {
				return false
			}
		default:
			return true // an entry of a list; assign looks at its number
		}
	}
	return true
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// variablePaths are the ways to read rest, the tail of a variable's name, as a key of t.
func (b *binder) variablePaths(t reflect.Type, rest string) [][]string {
	var found [][]string
	deeper := func(segment string, t reflect.Type, rest string, more bool) {
		if !more {
			found = append(found, []string{segment})
			return
		}
		for _, p := range b.variablePaths(t, rest) {
			found = append(found, append([]string{segment}, p...))
		}
	}
	switch t.Kind() {
	case reflect.Struct:
		for _, f := range b.schema(t) {
			tail, ok := strings.CutPrefix(rest, strings.ToUpper(f.name))
			if !ok {
				continue
			}
			if tail == "" {
				deeper(f.name, f.kind, "", false)
			} else if tail, ok := strings.CutPrefix(tail, "_"); ok {
				deeper(f.name, f.kind, tail, true)
			}
		}
	case reflect.Map, reflect.Slice:
		for i := 1; i <= len(rest); i++ {
			if i < len(rest) && rest[i] != '_' {
				continue
			}
			segment := strings.ReplaceAll(strings.ToLower(rest[:i]), "_", "-")
			if i == len(rest) {
				deeper(segment, t.Elem(), "", false)
			} else {
				deeper(segment, t.Elem(), rest[i+1:], true)
			}
		}
	}
	return found
}

// nearVariable suggests the variable closest to STANCHION_rest.
func (b *binder) nearVariable(rest string) string {
	var all []string
	var walk func(t reflect.Type, prefix string)
	walk = func(t reflect.Type, prefix string) {
		for _, f := range b.schema(t) {
			name := prefix + strings.ToUpper(f.name)
			all = append(all, name)
			if f.kind.Kind() == reflect.Struct {
				walk(f.kind, name+"_")
			}
		}
	}
	walk(reflect.TypeFor[Config](), envPrefix)
	return nearest(envPrefix+rest, all)
}

// sourceOf is the source of key, or of the nearest block above it that was given.
func sourceOf(sources map[string]Source, key string) Source {
	for key != "" {
		if s, ok := sources[key]; ok {
			return s
		}
		key = key[:max(0, strings.LastIndexAny(key, ".["))]
	}
	return Source{Name: sourceDefault}
}
