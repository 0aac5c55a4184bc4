package config

import (
	"fmt"
	"reflect"
	"strings"
)

// Reference is docs/reference/config.md, made from the struct's tags.
func Reference() string {
	var b strings.Builder
	b.WriteString(`# Configuration reference

Made by ` + "`stanchion config reference`" + ` from the program's own structures; do not edit.

Every key can be set in the YAML file (` + "`--config FILE`" + ` or ` + "`STANCHION_CONFIG`" + `), by an environment variable
(` + "`STANCHION_`" + ` and the key in capitals, with ` + "`_`" + ` for each dot and hyphen: ` + "`listeners.public.address`" + ` is
` + "`STANCHION_LISTENERS_PUBLIC_ADDRESS`" + `) and by a flag (` + "`--listeners.public.address=127.0.0.1:80`" + `, or
` + "`--set listeners.public.address=127.0.0.1:80`" + `). Flags win over the environment, the environment over the file, the
file over defaults. Lists of texts may be given with commas in variables and flags; other lists and blocks in YAML flow
style. A list replaces the one below it as a whole; named entries (` + "`rooms`" + `, ` + "`upstreams`" + `) are laid over each other.

Unknown keys and values out of range are refused, all at once, each with the place it came from. The unit is in a key's
name. *Live* marks keys that take effect without a restart. Secrets are never values: they lie in files that keys name.
`)
	referenceTable(&b, reflect.TypeFor[Config](), "", "")
	return b.String()
}

// referenceTable writes the table of t's keys, then the tables of the blocks in it.
func referenceTable(b *strings.Builder, t reflect.Type, path, doc string) {
	if path != "" {
		fmt.Fprintf(b, "\n## `%s`\n\n%s\n", path, doc)
	}
	b.WriteString("\n| key | kind | default | allowed | live | meaning |\n|---|---|---|---|---|---|\n")
	type block struct {
		path, doc string
		kind      reflect.Type
	}
	var blocks []block
	for _, f := range schema(t) {
		inner, at := f.kind, join(path, f.name)
		switch f.kind.Kind() {
		case reflect.Map:
			inner, at = f.kind.Elem(), at+".NAME"
		case reflect.Slice:
			inner, at = f.kind.Elem(), at+"[]"
		}
		meaning := f.doc
		if inner.Kind() == reflect.Struct {
			blocks = append(blocks, block{at, f.doc, inner})
			meaning = fmt.Sprintf("%s See [`%s`](#%s).", f.doc, at, anchor(at))
		}
		def := ""
		if f.hasDef {
			def = "`" + f.def + "`"
		} else if f.kind.Kind() == reflect.String {
			def = "empty"
		} else if f.kind.Kind() == reflect.Slice || f.kind.Kind() == reflect.Map {
			def = "none"
		}
		live := ""
		if f.hot {
			live = "live"
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s | %s | %s |\n", f.name, kindWord(f.kind), cell(def), cell(f.allowed()), live, cell(meaning))
	}
	for _, one := range blocks {
		referenceTable(b, one.kind, one.path, one.doc)
	}
}

func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

// anchor is GitHub's anchor of the heading of a block.
func anchor(path string) string {
	return strings.ToLower(strings.NewReplacer(".", "", "[", "", "]", "").Replace(path))
}
