package stanchion_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path"
	"regexp"
	"strings"
	"testing"
)

// tracked lists the files of the repository with their modes.
func tracked(t *testing.T) map[string]string {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command("git", "ls-files", "-s", "-z")
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git ls-files (this looks at what is tracked, so it needs a clone): %v\n%s", err, stderr.String())
	}
	modes := map[string]string{}
	for entry := range strings.SplitSeq(string(out), "\x00") {
		if about, name, ok := strings.Cut(entry, "\t"); ok {
			modes[name] = strings.Fields(about)[0]
		}
	}
	if len(modes) == 0 {
		t.Fatal("git tracks no files here")
	}
	return modes
}

// foreign is what belongs to somebody's machine and not to the product. It is
// put together from pieces so that this file does not hold it.
var foreign = regexp.MustCompile(`(^|[^\w./-])/(wo` + `rk|ro` + `ot|ho` + `me/\w+)/|registry\.npm` + `js\.org|proxy\.gol` + `ang\.org|repo1?\.mav` + `en\.`)

func TestNothingOfOneMachineIsTracked(t *testing.T) {
	for name, mode := range tracked(t) {
		if mode == "120000" || mode == "160000" {
			t.Errorf("%s: links and submodules are not welcome here", name)
			continue
		}
		content, err := os.ReadFile(name)
		if errors.Is(err, os.ErrNotExist) {
			continue // removed, not yet committed
		} else if err != nil {
			t.Error(err)
			continue
		}
		for i, line := range bytes.Split(content, []byte("\n")) {
			if found := foreign.Find(line); found != nil {
				t.Errorf("%s:%d speaks of one machine: %q", name, i+1, found)
			}
		}
	}
}

func TestForeign(t *testing.T) {
	tests := map[string]bool{
		"see /wo" + "rk/main":            true,
		"cd /ro" + "ot/x":                true,
		`"/ho` + `me/anna/x"`:            true,
		"paper/wo" + "rk/flow":           false,
		"https://example.org/wo" + "rk/": false,
		"/ho" + "me page":                false,
	}
	for line, want := range tests {
		if foreign.MatchString(line) != want {
			t.Errorf("%q: got %v", line, !want)
		}
	}
}

func TestScriptsAreExecutable(t *testing.T) {
	for name, mode := range tracked(t) {
		script := path.Ext(name) == ".sh" || strings.HasPrefix(name, ".ci/")
		if script && mode != "100755" {
			t.Errorf("%s has mode %s: run git update-index --chmod=+x %s", name, mode, name)
		}
	}
}
