package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Source is where a value came from.
type Source struct {
	Name string // file, environment variable, flag, or "default"
	Line int    // line in the file, 0 where there are no lines
}

// String is "file:line", or the name alone.
func (s Source) String() string {
	if s.Line > 0 {
		return fmt.Sprintf("%s:%d", s.Name, s.Line)
	}
	return cmp.Or(s.Name, sourceDefault)
}

const sourceDefault = "default"

// Problem is one thing wrong with a configuration.
type Problem struct {
	Source  Source // where it was said
	Key     string // dotted key, e.g. rooms.onsale.cap or routes[2].room; empty for a file as a whole
	Value   string // as given, shortened; empty when it is absent or must not be shown
	What    string // what is wrong
	Allowed string // allowed range or form; empty when What says it all
	Do      string // what to do about it
}

// String is the problem on one line.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.Source.String())
	b.WriteString(": ")
	if p.Key != "" {
		b.WriteString(p.Key)
		if p.Value != "" {
			b.WriteString(" = " + p.Value)
		}
		b.WriteString(": ")
	}
	b.WriteString(p.What)
	if p.Allowed != "" {
		b.WriteString("; allowed: " + p.Allowed)
	}
	if p.Do != "" {
		b.WriteString("; " + p.Do)
	}
	return b.String()
}

// Problems is the error of this package: everything that is wrong, not only the first thing.
type Problems struct {
	List []Problem
}

// Error lists the problems, one a line, under a heading with their number.
func (p *Problems) Error() string {
	var b strings.Builder
	if len(p.List) == 1 {
		b.WriteString("1 problem in the configuration:")
	} else {
		fmt.Fprintf(&b, "%d problems in the configuration:", len(p.List))
	}
	for _, one := range p.List {
		b.WriteString("\n  " + one.String())
	}
	return b.String()
}

func (p *Problems) add(one Problem) { p.List = append(p.List, one) }

// err is p as an error, nil when nothing is wrong. Problems are put in the order an editor would walk through them.
func (p *Problems) err() error {
	if len(p.List) == 0 {
		return nil
	}
	slices.SortStableFunc(p.List, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Source.Name, b.Source.Name), cmp.Compare(a.Source.Line, b.Source.Line))
	})
	return p
}

// show is a value for a message: quoted, on one line, shortened.
func show(text string) string {
	const most = 64
	if r := []rune(text); len(r) > most {
		text = string(r[:most]) + "…"
	}
	return fmt.Sprintf("%q", text)
}

// nearest is "; did you mean X?" for the candidate closest to name, or empty when none is close.
func nearest(name string, candidates []string) string {
	best, distance := "", len(name)/3+2
	for _, c := range candidates {
		if d := editDistance(name, c); d < distance {
			best, distance = c, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("did you mean %q?", best)
}

// editDistance is Levenshtein's, on bytes, by the usual two rows.
func editDistance(a, b string) int {
	if len(a) > 128 || len(b) > 128 {
		return max(len(a), len(b))
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// Join makes one error of several of this package's, each of which may be nil.
func Join(errs ...error) error {
	var all Problems
	for _, err := range errs {
		var p *Problems
		switch {
		case err == nil:
		case errors.As(err, &p):
			all.List = append(all.List, p.List...)
		default:
			all.add(Problem{What: err.Error()})
		}
	}
	return all.err()
}
