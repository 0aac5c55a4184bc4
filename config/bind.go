package config

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// binder lays one source after another over a Config and collects what is wrong and where each value came from. A
// generic decoder would stop at the first wrong value and forget its line, so this walks the YAML tree itself.
type binder struct {
	problems Problems
	sources  map[string]Source
	known    map[reflect.Type][]field
	quiet    bool // while defaults are set: record no sources
}

func newBinder() *binder {
	return &binder{sources: map[string]Source{}, known: map[reflect.Type][]field{}}
}

func (b *binder) schema(t reflect.Type) []field {
	fields, ok := b.known[t]
	if !ok {
		fields = schema(t)
		b.known[t] = fields
	}
	return fields
}

// defaults sets every key to its default.
func (b *binder) defaults(cfg *Config) {
	b.setDefaults(reflect.ValueOf(cfg).Elem())
}

func (b *binder) setDefaults(v reflect.Value) {
	if v.Kind() != reflect.Struct {
		return
	}
	quiet := b.quiet
	b.quiet = true
	for _, f := range b.schema(v.Type()) {
		value := v.Field(f.index)
		switch value.Kind() {
		case reflect.Struct:
			b.setDefaults(value)
		case reflect.Map:
			value.Set(reflect.MakeMap(value.Type()))
		case reflect.Slice:
			value.Set(reflect.MakeSlice(value.Type(), 0, 0))
		}
		if f.hasDef {
			b.fragment(f.def, value, f, f.name, Source{Name: sourceDefault})
		}
	}
	b.quiet = quiet
}

// document lays a whole YAML document over the part of cfg that at names ("" for all of it).
func (b *binder) document(name string, most int, text []byte, at string, cfg *Config) {
	if len(text) > most {
		b.problems.add(Problem{Source: Source{Name: name}, What: fmt.Sprintf("is %d bytes long", len(text)),
			Allowed: fmt.Sprintf("at most %d bytes", most), Do: "check that it is the right file"})
		return
	}
	body, ok := b.parse(name, text)
	if !ok || body == nil {
		return
	}
	locate := func(n ast.Node) Source { return Source{Name: name, Line: line(n)} }
	root := reflect.ValueOf(cfg).Elem()
	if at == "" {
		b.bind(body, root, field{kind: root.Type()}, "", locate)
		return
	}
	if body.Type() == ast.NullType {
		return
	}
	b.descend(root, field{kind: root.Type()}, strings.Split(at, "."), "", Source{Name: name}, func(v reflect.Value, f field, path string) {
		b.bind(body, v, f, path, locate)
	})
}

// parse reads text as one YAML document; a nil body means that it is empty.
func (b *binder) parse(name string, text []byte) (body ast.Node, ok bool) {
	file, err := parseYAML(text)
	if err != nil {
		p := Problem{Source: Source{Name: name}, What: err.Error(), Do: "correct the YAML"}
		var at interface {
			GetMessage() string
			GetToken() *token.Token
		}
		if errors.As(err, &at) {
			p.What = at.GetMessage()
			if t := at.GetToken(); t != nil && t.Position != nil {
				p.Source.Line = t.Position.Line
			}
		}
		p.What = "is not valid YAML: " + strings.Join(strings.Fields(p.What), " ")
		b.problems.add(p)
		return nil, false
	}
	var bodies []ast.Node
	for _, doc := range file.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.CommentType {
			continue
		}
		bodies = append(bodies, doc.Body)
	}
	switch len(bodies) {
	case 0:
		return nil, true
	case 1:
		return bodies[0], true
	}
	b.problems.add(Problem{Source: Source{Name: name, Line: line(bodies[1])}, What: "holds more than one YAML document",
		Do: "keep one, without --- between parts"})
	return nil, false
}

// parseYAML turns a panic of the parser on hostile input into an error.
func parseYAML(text []byte) (file *ast.File, err error) {
	defer func() {
		if r := recover(); r != nil {
			file, err = nil, fmt.Errorf("the YAML parser gave up: %v", r)
		}
	}()
	if deepest := nesting(text); deepest > maxNesting {
		return nil, fmt.Errorf("nested %d deep, at most %d", deepest, maxNesting)
	}
	return parser.ParseBytes(text, 0, parser.AllowDuplicateMapKey())
}

const maxNesting = 32

// nesting is an upper bound of how deep flow collections and indented blocks nest, found without the parser, which
// recurses.
func nesting(text []byte) int {
	flow, deepest, indent, start := 0, 0, 0, true
	for _, c := range text {
		switch {
		case c == '\n':
			start, indent = true, 0
			continue
		case start && (c == ' ' || c == '-' || c == '?'):
			indent++
		case c == '[' || c == '{':
			start = false
			flow++
		case c == ']' || c == '}':
			start = false
			flow = max(0, flow-1)
		default:
			start = false
		}
		deepest = max(deepest, flow, indent/2)
	}
	return deepest
}

func line(n ast.Node) int {
	if n == nil || n.GetToken() == nil || n.GetToken().Position == nil {
		return 0
	}
	return n.GetToken().Position.Line
}

// bind lays a YAML node over v.
func (b *binder) bind(n ast.Node, v reflect.Value, f field, path string, locate func(ast.Node) Source) {
	switch n.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
		b.problems.add(Problem{Source: locate(n), Key: path, What: "uses a YAML anchor, alias or tag", Do: "write the value out"})
		return
	}
	if n.Type() == ast.NullType {
		switch v.Kind() {
		case reflect.Struct, reflect.Map, reflect.Slice: // everything below is commented out: nothing was said
		default:
			b.problems.add(Problem{Source: locate(n), Key: path, What: "has no value", Allowed: f.allowed(), Do: "give one, or drop the key to have its default"})
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		b.bindStruct(n, v, path, locate)
	case reflect.Map:
		b.bindMap(n, v, f, path, locate)
	case reflect.Slice:
		b.bindSlice(n, v, f, path, locate)
	default:
		scalar, ok := n.(ast.ScalarNode)
		if !ok {
			b.wrongKind(n, f, path, locate)
			return
		}
		text, quoted := scalar.GetToken().Value, false
		switch s := n.(type) {
		case *ast.StringNode:
			text = s.Value
			quoted = s.Token.Type == token.SingleQuoteType || s.Token.Type == token.DoubleQuoteType
		case *ast.LiteralNode:
			text, quoted = strings.TrimSuffix(s.Value.Value, "\n"), true
		}
		b.setScalar(text, quoted, v, f, path, locate(n))
	}
}

func (b *binder) wrongKind(n ast.Node, f field, path string, locate func(ast.Node) Source) {
	got := "a single value"
	switch n.(type) {
	case ast.MapNode:
		got = "a block of keys"
	case ast.ArrayNode:
		got = "a list"
	}
	do := "see the reference of this key"
	if _, block := n.(ast.MapNode); block && f.kind.Kind() == reflect.String {
		do = "put quotes around a text with a colon in it"
	}
	b.problems.add(Problem{Source: locate(n), Key: path, What: "is " + got, Allowed: "a " + kindWord(f.kind), Do: do})
}

// entries walks a mapping, reporting keys that are not plain or come twice.
func (b *binder) entries(n ast.Node, f field, path string, locate func(ast.Node) Source, each func(name string, key, value ast.Node)) {
	m, ok := n.(ast.MapNode)
	if !ok {
		b.wrongKind(n, f, path, locate)
		return
	}
	first := map[string]Source{}
	for it := m.MapRange(); it.Next(); {
		key := it.Key()
		if key.GetToken() == nil {
			continue
		}
		name := key.GetToken().Value
		if before, twice := first[name]; twice {
			b.problems.add(Problem{Source: locate(key), Key: join(path, name), What: "is given twice, first at " + before.String(), Do: "keep one"})
			continue
		}
		first[name] = locate(key)
		each(name, key, it.Value())
	}
}

func (b *binder) bindStruct(n ast.Node, v reflect.Value, path string, locate func(ast.Node) Source) {
	fields := b.schema(v.Type())
	b.entries(n, field{kind: v.Type()}, path, locate, func(name string, key, value ast.Node) {
		f, ok := find(fields, name)
		if !ok || f.name != name {
			b.unknown(locate(key), path, name, names(fields))
			return
		}
		b.bind(value, v.Field(f.index), f, join(path, name), locate)
	})
}

func (b *binder) unknown(src Source, path, name string, candidates []string) {
	do := nearest(name, candidates)
	if do == "" {
		do = "known here: " + strings.Join(candidates, ", ")
	}
	b.problems.add(Problem{Source: src, Key: join(path, clip(name)), What: "is not a known key", Do: do})
}

func (b *binder) bindMap(n ast.Node, v reflect.Value, f field, path string, locate func(ast.Node) Source) {
	b.entries(n, f, path, locate, func(name string, key, value ast.Node) {
		b.element(v, f, name, path, locate(key), func(e reflect.Value, ef field, at string) {
			b.bind(value, e, ef, at, locate)
		})
	})
	b.checkLength(v.Len(), f, path, locate(n))
}

// element changes the entry of a map, made with its defaults if it is new. Map values cannot be changed in place.
func (b *binder) element(v reflect.Value, f field, name, path string, src Source, change func(e reflect.Value, ef field, at string)) {
	keyFormat, valueFormat, _ := strings.Cut(f.format, ":")
	if !formats[keyFormat].ok(name) {
		b.problems.add(Problem{Source: src, Key: join(path, clip(name)), What: "is not an allowed name", Allowed: formats[keyFormat].words, Do: "rename it"})
		return
	}
	e := reflect.New(f.kind.Elem()).Elem()
	key := reflect.ValueOf(name)
	if old := v.MapIndex(key); old.IsValid() {
		e.Set(old)
	} else {
		b.setDefaults(e)
		if !b.quiet {
			b.sources[join(path, name)] = src
		}
	}
	ef := f
	ef.kind, ef.format, ef.length = f.kind.Elem(), valueFormat, [2]int{}
	if e.Kind() == reflect.String {
		ef.length = [2]int{0, 1024}
	}
	change(e, ef, join(path, name))
	v.SetMapIndex(key, e)
}

// bindSlice replaces a list as a whole.
func (b *binder) bindSlice(n ast.Node, v reflect.Value, f field, path string, locate func(ast.Node) Source) {
	list, ok := n.(ast.ArrayNode)
	if !ok {
		b.wrongKind(n, f, path, locate)
		return
	}
	made := reflect.MakeSlice(v.Type(), 0, 0)
	ef := f
	ef.kind, ef.length = f.kind.Elem(), [2]int{}
	for it := list.ArrayRange(); it.Next(); {
		e := reflect.New(f.kind.Elem()).Elem()
		b.setDefaults(e)
		at := fmt.Sprintf("%s[%d]", path, made.Len())
		if !b.quiet {
			b.sources[at] = locate(it.Value())
		}
		b.bind(it.Value(), e, ef, at, locate)
		made = reflect.Append(made, e)
	}
	b.setSlice(v, made, f, path, locate(n))
}

func (b *binder) setSlice(v, made reflect.Value, f field, path string, src Source) {
	b.checkLength(made.Len(), f, path, src)
	v.Set(made)
	if !b.quiet {
		b.sources[path] = src
	}
}

func (b *binder) checkLength(n int, f field, path string, src Source) {
	if f.length != [2]int{} && (n < f.length[0] || n > f.length[1]) {
		b.problems.add(Problem{Source: src, Key: path, What: fmt.Sprintf("has %d entries", n), Allowed: fmt.Sprintf("%d to %d", f.length[0], f.length[1]), Do: "change the list"})
	}
}

// fragment lays a value given as text (flag, variable, default) over v. Texts and numbers are taken as they stand; lists
// of texts may be separated by commas; anything else is YAML.
func (b *binder) fragment(text string, v reflect.Value, f field, path string, src Source) {
	switch v.Kind() {
	case reflect.Struct, reflect.Map, reflect.Slice:
	default:
		b.setScalar(text, false, v, f, path, src)
		return
	}
	if trimmed := strings.TrimSpace(text); v.Kind() == reflect.Slice && f.kind.Elem().Kind() == reflect.String && !strings.HasPrefix(trimmed, "[") {
		made := reflect.MakeSlice(v.Type(), 0, 0)
		ef := f
		ef.kind, ef.length = f.kind.Elem(), [2]int{}
		for part := range strings.SplitSeq(trimmed, ",") {
			if trimmed == "" {
				break
			}
			e := reflect.New(f.kind.Elem()).Elem()
			b.setScalar(strings.TrimSpace(part), false, e, ef, fmt.Sprintf("%s[%d]", path, made.Len()), src)
			made = reflect.Append(made, e)
		}
		b.setSlice(v, made, f, path, src)
		return
	}
	if len(text) > MaxFileBytes {
		b.problems.add(Problem{Source: src, Key: path, What: "is too long", Allowed: fmt.Sprintf("at most %d bytes", MaxFileBytes), Do: "use the file"})
		return
	}
	body, ok := b.parse(src.Name, []byte(text))
	if !ok || body == nil {
		return
	}
	b.bind(body, v, f, path, func(ast.Node) Source { return src })
}

// assign lays text over the key that segments name.
func (b *binder) assign(cfg *Config, segments []string, text string, src Source) {
	root := reflect.ValueOf(cfg).Elem()
	b.descend(root, field{kind: root.Type()}, segments, "", src, func(v reflect.Value, f field, path string) {
		b.fragment(text, v, f, path, src)
	})
}

// descend walks from v along segments and calls change at the end.
func (b *binder) descend(v reflect.Value, f field, segments []string, path string, src Source, change func(reflect.Value, field, string)) {
	if len(segments) == 0 {
		change(v, f, path)
		return
	}
	name, rest := segments[0], segments[1:]
	switch v.Kind() {
	case reflect.Struct:
		fields := b.schema(v.Type())
		next, ok := find(fields, name)
		if !ok {
			b.unknown(src, path, name, names(fields))
			return
		}
		b.descend(v.Field(next.index), next, rest, join(path, next.name), src, change)
	case reflect.Map:
		b.element(v, f, name, path, src, func(e reflect.Value, ef field, at string) {
			b.descend(e, ef, rest, at, src, change)
		})
	case reflect.Slice:
		i, err := strconv.Atoi(name)
		if err != nil || i < 0 || i >= v.Len() {
			b.problems.add(Problem{Source: src, Key: join(path, clip(name)), What: fmt.Sprintf("names no entry of a list of %d", v.Len()),
				Do: "count from 0, or give the whole list as YAML"})
			return
		}
		ef := f
		ef.kind, ef.length = f.kind.Elem(), [2]int{}
		b.descend(v.Index(i), ef, rest, fmt.Sprintf("%s[%d]", path, i), src, change)
	default:
		b.problems.add(Problem{Source: src, Key: join(path, clip(name)), What: "is not a known key", Do: path + " is a " + kindWord(f.kind)})
	}
}

// setScalar parses, checks and sets one value.
func (b *binder) setScalar(text string, quoted bool, v reflect.Value, f field, path string, src Source) {
	wrong := func(what, do string) {
		p := Problem{Source: src, Key: path, Value: show(text), What: what, Allowed: f.allowed(), Do: do}
		if f.secret {
			p.Value = ""
		}
		if hasUserInfo(text) {
			p.Value, p.What, p.Do = "", "carries a user or password", "keep secrets in files of their own"
		}
		b.problems.add(p)
	}
	number := func() bool {
		if quoted {
			wrong("is a text where a number is expected", "write it without quotes")
		}
		return !quoted
	}
	switch v.Kind() {
	case reflect.String:
		if text == "" && f.nullable {
			break
		}
		if f.format != "" && !formats[f.format].ok(text) {
			wrong("is not acceptable", "correct it")
			return
		}
		if len(f.enum) > 0 && !slices.Contains(f.enum, text) {
			do := nearest(text, f.enum)
			if do == "" {
				do = "choose one"
			}
			wrong("is not one of the choices", do)
			return
		}
		if n := len([]rune(text)); f.length != [2]int{} && (n < f.length[0] || n > f.length[1]) {
			wrong(fmt.Sprintf("has %d characters", n), "shorten or complete it")
			return
		}
		if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\n' && r != '\t' || r == 0x7f }) || !isUTF8(text) {
			wrong("has control characters or is not UTF-8", "remove them")
			return
		}
		v.SetString(text)
	case reflect.Bool:
		switch {
		case quoted || text != "true" && text != "false":
			wrong("is neither true nor false", "write true or false")
			return
		default:
			v.SetBool(text == "true")
		}
	case reflect.Int, reflect.Int64:
		if !number() {
			return
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			x, ferr := strconv.ParseFloat(text, 64)
			if ferr != nil || x != math.Trunc(x) || math.Abs(x) > 1<<53 {
				wrong("is not a whole number", "write digits only; the unit is in the key's name")
				return
			}
			n = int64(x)
		}
		if outside(float64(n), f) {
			wrong("is out of range", "choose a value in it")
			return
		}
		v.SetInt(n)
	case reflect.Uint64:
		if !number() {
			return
		}
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			wrong("is not a whole number", "write digits only")
			return
		}
		v.SetUint(n)
	case reflect.Float64:
		if !number() {
			return
		}
		x, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(x) || math.IsInf(x, 0) || strings.ContainsAny(text, "xXpP_") {
			wrong("is not a number", "write it with a decimal point; the unit is in the key's name")
			return
		}
		if outside(x, f) {
			wrong("is out of range", "choose a value in it")
			return
		}
		v.SetFloat(x)
	}
	if !b.quiet {
		b.sources[path] = src
	}
}

func outside(x float64, f field) bool {
	if f.limits == [2]string{} {
		return false
	}
	low, _ := strconv.ParseFloat(f.limits[0], 64)
	high, _ := strconv.ParseFloat(f.limits[1], 64)
	return x < low || x > high
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// clip keeps a stranger's key name short and on one line in messages.
func clip(name string) string {
	if quoted := show(name); quoted != `"`+name+`"` {
		return quoted
	}
	return name
}

func isUTF8(s string) bool { return strings.ToValidUTF8(s, "") == s }
