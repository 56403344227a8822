package credentials

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spillway/spillway/functions"
)

func write(t *testing.T, path, text string, mode os.FileMode) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// dockerHas makes Docker's own configuration; without any, an empty home.
func dockerHas(t *testing.T, config string) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "DOCKER_CONFIG"} {
		t.Setenv(name, dir)
	}
	t.Setenv("REGISTRY_AUTH_FILE", "")
	if config != "" {
		write(t, filepath.Join(dir, "config.json"), config, 0o600)
	}
}

func TestLookup(t *testing.T) {
	bin := t.TempDir()
	write(t, filepath.Join(bin, "docker-credential-test"), `#!/bin/sh
read registry
[ "$registry" = helped.test ] && echo '{"Username":"helper","Secret":"h"}' && exit
[ "$registry" = token.test ] && echo '{"Username":"<token>","Secret":"t"}' && exit
echo "credentials not found in native keychain"; exit 1
`, 0o755)
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	dockerHas(t, `{"auths": {"both.test": {"auth": "ZG9ja2VyOmQ="}, "docker.test:5000": {"auth": "ZG9ja2VyOmQ="}, "https://index.docker.io/v1/": {"auth": "aHViOmg="}},
		"credHelpers": {"helped.test": "test", "token.test": "test", "nothing.test": "test"}}`)
	k, err := Open(write(t, filepath.Join(t.TempDir(), "auth.json"), `{"auths": {
		"own.test": {"auth": "b3duOm8="}, "own.test:5000": {"username": "other", "password": "p"}, "both.test": {"username": "own", "password": "o"},
		"https://url.test/v1/": {"username": "u", "password": "p"}, "identity.test": {"identitytoken": "i"}}}`, 0o600))
	if err != nil {
		t.Fatal(err)
	}
	for registry, want := range map[string]string{
		"own.test": "own o", "own.test:5000": "other p", "both.test": "own o", "url.test": "u p", "identity.test": "<token> i",
		"docker.test:5000": "docker d", "docker.io": "hub h", "helped.test": "helper h", "token.test": "<token> t",
		"nothing.test": "", "docker.test": "", "127.0.0.1:5000": "",
	} {
		user, secret, ok, err := k.Lookup(registry)
		if err != nil || ok != (want != "") || strings.TrimSpace(user+" "+secret) != want {
			t.Errorf("%s: %q %q %v %v, want %q", registry, user, secret, ok, err, want)
		}
	}
	if _, _, _, err := k.Lookup("no registry"); !errors.Is(err, functions.ErrInvalid) {
		t.Errorf("a bad name: %v", err)
	}
}

func TestANewLoginCountsAtOnce(t *testing.T) {
	dockerHas(t, "")
	file := write(t, filepath.Join(t.TempDir(), "auth.json"), `{}`, 0o600)
	k, err := Open(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, ok, err := k.Lookup("a.test"); ok || err != nil {
		t.Errorf("before: %v %v", ok, err)
	}
	write(t, file, `{"auths": {"a.test": {"username": "u", "password": "p"}}}`, 0o600)
	if user, _, ok, err := k.Lookup("a.test"); !ok || err != nil || user != "u" {
		t.Errorf("after: %q %v %v", user, ok, err)
	}
}

func TestBadFiles(t *testing.T) {
	dockerHas(t, "")
	if _, err := Open(""); err != nil {
		t.Errorf("no file: %v", err)
	}
	for what, text := range map[string]string{
		"noise": "noise", "bad auth": `{"auths": {"a.test": {"auth": "?"}}}`, "bad registry": `{"auths": {"a b": {"auth": "b3duOm8="}}}`, "empty entry": `{"auths": {"a.test": {}}}`,
	} {
		_, err := Open(write(t, filepath.Join(t.TempDir(), "auth.json"), text, 0o600))
		var known *functions.Error
		if !errors.Is(err, functions.ErrInvalid) || !errors.As(err, &known) || known.Hint == "" {
			t.Errorf("%s: %v, want invalid with a hint", what, err)
		}
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none")); !errors.Is(err, functions.ErrInvalid) {
		t.Errorf("no such file: %v", err)
	}
	dockerHas(t, "noise")
	k, err := Open("")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := k.Lookup("a.test"); !errors.Is(err, functions.ErrInvalid) {
		t.Errorf("Docker's file is noise: %v", err)
	}
}
