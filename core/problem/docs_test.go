package problem_test

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stanchion-queue/stanchion/core/problem"
)

var update = flag.Bool("update", false, "write the generated part of docs/reference/problems.md")

const (
	docs  = "../../docs/reference/problems.md"
	begin = "<!-- generated from core/problem: go test ./core/problem -update -->\n"
	end   = "<!-- end -->\n"
)

// table is the documentation of all kinds.
func table() string {
	var b strings.Builder
	b.WriteString("| type | status | title | when | what to do |\n|---|---|---|---|---|\n")
	for _, k := range problem.Kinds() {
		fmt.Fprintf(&b, "| `%s` | %d | %s | %s | %s |\n", k.Code, k.Status, k.Title, k.Means, k.Do)
	}
	return b.String()
}

func TestThePageListsEveryKind(t *testing.T) {
	b, err := os.ReadFile(docs)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(b), begin)
	was, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has lost the marks of its generated part", docs)
	}
	if was == table() {
		return
	}
	if !*update {
		t.Fatalf("%s is not what the code says: go test ./core/problem -update", docs)
	}
	if err := os.WriteFile(docs, []byte(head+begin+table()+end+tail), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestKindsAreComplete(t *testing.T) {
	code := regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`)
	seen := map[string]bool{}
	for _, k := range problem.Kinds() {
		if !code.MatchString(k.Code) || k.Status < 400 || k.Status > 599 || k.Title == "" || k.Means == "" || k.Do == "" {
			t.Errorf("%+v is not complete", *k)
		}
		if strings.HasSuffix(k.Title, ".") || !strings.HasSuffix(k.Means, ".") || !strings.HasSuffix(k.Do, ".") || strings.ContainsAny(k.Title+k.Means+k.Do, "|!\n") {
			t.Errorf("%s: a title has no full stop, its explanation is whole sentences, and all fit into one cell", k.Code)
		}
		if seen[k.Code] {
			t.Errorf("%s is there twice", k.Code)
		}
		seen[k.Code] = true
	}
}
