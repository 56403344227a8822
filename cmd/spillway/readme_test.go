package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spillway/spillway/functions/spec"
)

// TestReadmeIsTrue holds the README, and the guides that it leads to, to the tree:
// every file that they name is there, every make target, and every flag of spillway.
func TestReadmeIsTrue(t *testing.T) {
	for _, page := range []string{"README.md", "deploy/runtimes.md", "deploy/gpu-host.md"} {
		t.Run(page, func(t *testing.T) { holdTrue(t, page) })
	}
}

func holdTrue(t *testing.T, page string) {
	root := filepath.Join("..", "..")
	readme, err := os.ReadFile(filepath.Join(root, page))
	if err != nil {
		t.Fatal(err)
	}
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	flags := upCommand(os.Getenv).Flags()
	for _, quoted := range regexp.MustCompile("`([a-z]+/[a-zA-Z0-9_./-]*)`").FindAllStringSubmatch(string(readme), -1) {
		if _, err := os.Stat(filepath.Join(root, quoted[1])); err != nil {
			t.Errorf("it names %s: %v", quoted[1], err)
		}
	}
	for _, m := range regexp.MustCompile("(?m)(?:^|[`;&]) *make ([a-z]+)").FindAllStringSubmatch(string(readme), -1) {
		if !strings.Contains(string(makefile), "\n"+m[1]+":") {
			t.Errorf("it names the target %s, which the Makefile has not", m[1])
		}
	}
	for _, m := range regexp.MustCompile(`spillway (?:up|server|node) [^\n|]*--([a-z-]+)`).FindAllStringSubmatch(string(readme), -1) {
		if flags.Lookup(m[1]) == nil {
			t.Errorf("it names --%s, which spillway up has not", m[1])
		}
	}
	for _, m := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(readme), -1) {
		if _, err := spec.Parse([]byte(m[1])); err != nil {
			t.Errorf("a function in it: %v", err)
		}
	}
	if strings.Contains(string(readme), "_OUTPUT") {
		t.Error("it lacks the real output of a command")
	}
}
