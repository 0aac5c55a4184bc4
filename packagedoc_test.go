package stanchion_test

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestEveryPackageSaysWhatItIsFor wants a comment on every package that tells a
// stranger what lives there.
func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	for _, p := range ours(t) {
		if len(p.GoFiles) == 0 {
			continue // tests alone
		}
		var comment strings.Builder
		for _, file := range p.GoFiles {
			parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, file), nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				t.Error(err)
				continue
			}
			comment.WriteString(parsed.Doc.Text())
		}
		if !saysEnough(comment.String()) {
			t.Errorf("%s: the package comment says too little: %q", local(p.ImportPath), comment.String())
		}
	}
}

var sentenceEnd = regexp.MustCompile(`[.!?](\s|$)`)

// saysEnough asks for two sentences, or for one of some length.
func saysEnough(comment string) bool {
	comment = strings.TrimSpace(comment)
	return len(comment) >= 60 || len(sentenceEnd.FindAllString(comment, -1)) >= 2
}

func TestSaysEnough(t *testing.T) {
	tests := map[string]bool{
		"":                   false,
		"Package x does x.":  false,
		"Package x. Does y.": true,
		"Package line decides who stands where in a waiting room and why": true,
	}
	for comment, want := range tests {
		if saysEnough(comment) != want {
			t.Errorf("%q: got %v", comment, !want)
		}
	}
}
