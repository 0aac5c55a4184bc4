package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// java17 is where Debian keeps the runtime, on any processor. Cassandra 5 runs
// on 17 and not on anything newer, so the machine's default will not do.
const java17 = "/usr/lib/jvm/java-17-openjdk-*/bin/java"

const copyDependencies = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"

var javaTools = []tool{{java17, "openjdk-17-jre-headless"}, {"mvn", "maven"}}

// fetchJars copies what pom asks for into lib and holds every jar against the
// committed list of checksums. Jars that are already right are not fetched.
func fetchJars(ctx context.Context, pom, sums, lib string) error {
	want, err := parseSums(sums)
	if err != nil {
		return err
	}
	if checkJars(lib, want) == nil {
		return nil
	}
	if err := freshFolder(lib, nil); err != nil {
		return err
	}
	project := filepath.Join(filepath.Dir(lib), "pom.xml")
	if err := os.WriteFile(project, []byte(pom), 0o644); err != nil {
		return err
	}
	if _, err := output(ctx, filepath.Dir(lib), "mvn", "-q", "-B", "-f", project, copyDependencies,
		"-DoutputDirectory="+lib, "-DincludeScope=runtime"); err != nil {
		return err
	}
	return checkJars(lib, want)
}

// parseSums reads the format of sha256sum: a checksum and a file name a line.
func parseSums(text string) (map[string]string, error) {
	sums := map[string]string{}
	scan := bufio.NewScanner(strings.NewReader(text))
	for scan.Scan() {
		fields := strings.Fields(scan.Text())
		if len(fields) != 2 || len(fields[0]) != hex.EncodedLen(sha256.Size) {
			return nil, fmt.Errorf("%q is not a line of sha256sum", scan.Text())
		}
		if _, twice := sums[fields[1]]; twice {
			return nil, fmt.Errorf("%s is listed twice", fields[1])
		}
		sums[fields[1]] = fields[0]
	}
	if len(sums) == 0 {
		return nil, errors.New("the list of checksums is empty")
	}
	return sums, nil
}

// checkJars reports every jar in lib that is missing, different or not listed.
func checkJars(lib string, want map[string]string) error {
	entries, err := os.ReadDir(lib)
	if err != nil {
		return err
	}
	var wrong []string
	seen := map[string]bool{}
	for _, entry := range entries {
		name := entry.Name()
		seen[name] = true
		got, err := fileSum(filepath.Join(lib, name))
		switch {
		case err != nil:
			return err
		case want[name] == "":
			wrong = append(wrong, name+" is not listed")
		case want[name] != got:
			wrong = append(wrong, name+" has checksum "+got)
		}
	}
	for name := range want {
		if !seen[name] {
			wrong = append(wrong, name+" is missing")
		}
	}
	if len(wrong) > 0 {
		slices.Sort(wrong)
		return fmt.Errorf("jars in %s are not the pinned ones:\n  %s", lib, strings.Join(wrong, "\n  "))
	}
	return nil
}

func fileSum(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}
