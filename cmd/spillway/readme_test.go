package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spillway/spillway/functions/spec"
)

// TestReadmeIsTrue holds the README to the tree: every file that it names is
// there, every make target, and every flag of spillway.
func TestReadmeIsTrue(t *testing.T) {
	root := filepath.Join("..", "..")
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
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
			t.Errorf("the README names %s: %v", quoted[1], err)
		}
	}
	for _, m := range regexp.MustCompile(`make ([a-z]+)`).FindAllStringSubmatch(string(readme), -1) {
		if !strings.Contains(string(makefile), "\n"+m[1]+":") {
			t.Errorf("the README names the target %s, which the Makefile has not", m[1])
		}
	}
	for _, m := range regexp.MustCompile(`spillway (?:up|server|node) [^\n|]*--([a-z-]+)`).FindAllStringSubmatch(string(readme), -1) {
		if flags.Lookup(m[1]) == nil {
			t.Errorf("the README names --%s, which spillway up has not", m[1])
		}
	}
	for _, m := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(readme), -1) {
		if _, err := spec.Parse([]byte(m[1])); err != nil {
			t.Errorf("a function in the README: %v", err)
		}
	}
	if strings.Contains(string(readme), "_OUTPUT") {
		t.Error("the README lacks the real output of a command")
	}
}
