package journeys

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The page documents the problems of all parts. Those of the core are generated from its code and checked beside it; the others
// are looked for in the sources, because no family may import another to list them.
func TestEveryProblemIsDocumented(t *testing.T) {
	const root = "../.."
	page, err := os.ReadFile(filepath.Join(root, "docs/reference/problems.md"))
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, line := range strings.Split(string(page), "\n") {
		cells := strings.Split(line, "|")
		if len(cells) < 5 {
			continue
		}
		for _, m := range regexp.MustCompile("`([a-z-]+)`").FindAllStringSubmatch(cells[1], -1) {
			documented[m[1]] = true
		}
	}
	for _, source := range []struct {
		files   string
		pattern string
		least   int // fewer finds mean that the pattern no longer fits the code
	}{
		{"edge/*.go", `problemTypes \+ "([a-z-]+)"`, 10},
		{"edge/guard/*.go", `/problems/([a-z-]+)`, 1},
		{"queue/line/*.go", `Refused\w+\s+RefusalCode = "([a-z-]+)"`, 10},
		{"admin/*/*.go", `(?s)problem\.New\(\s*(?:http\.Status[3-5B-Z]\w+|4\d\d|5\d\d),\s*"([a-z-]+)"`, 5},
		{"admin/problem/*.go", `\d{3}, "([a-z-]+)", "`, 3},
	} {
		files, err := filepath.Glob(filepath.Join(root, source.files))
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range regexp.MustCompile(source.pattern).FindAllSubmatch(text, -1) {
				found++
				if code := string(m[1]); !documented[code] && code != "signed-in" { // which is a success told in the same form
					t.Errorf("%s answers %s, which docs/reference/problems.md does not explain", strings.TrimPrefix(name, root+"/"), code)
				}
			}
		}
		if found < source.least {
			t.Errorf("%s: only %d problems found by %s", source.files, found, source.pattern)
		}
	}
}
