package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestAWSKeyIsMadeOnce(t *testing.T) {
	dir := t.TempDir()
	s, err := loadSecrets(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^SPILLWAY[A-Z0-9]{12}$`).MatchString(s.AWSAccessKey) || !regexp.MustCompile(`^[A-Za-z0-9+/]{40}$`).MatchString(s.AWSSecret) {
		t.Errorf("the key is %q with %d characters of secret", s.AWSAccessKey, len(s.AWSSecret))
	}
	if err := validAWSKey(s.AWSAccessKey, s.AWSSecret); err != nil {
		t.Error(err)
	}
	other, err := loadSecrets(t.TempDir())
	if err != nil || other.AWSAccessKey == s.AWSAccessKey || other.AWSSecret == s.AWSSecret {
		t.Errorf("two data folders have one key (err %v)", err)
	}
}

// A data folder of an older version gets a key, and keeps the rest and that.
func TestAnOlderDataFolderGetsAnAWSKey(t *testing.T) {
	dir := t.TempDir()
	was, err := loadSecrets(dir)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "secrets.json")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]string
	if err := json.Unmarshal(b, &fields); err != nil {
		t.Fatal(err)
	}
	delete(fields, "aws_access_key_id")
	delete(fields, "aws_secret_access_key")
	if b, err = json.Marshal(fields); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readAWSKey(dir); err == nil || !strings.Contains(err.Error(), "older version") {
		t.Errorf("without a key: %v", err)
	}
	got, err := loadSecrets(dir)
	if err != nil || got.AWSAccessKey == "" || got.AWSSecret == "" || got.AWSAccessKey == was.AWSAccessKey {
		t.Fatalf("the folder has the key %q, %v", got.AWSAccessKey, err)
	}
	kept, err := readAWSKey(dir)
	if err != nil || kept != got {
		t.Errorf("the new key is not kept: %v", err)
	}
	got.AWSAccessKey, got.AWSSecret = was.AWSAccessKey, was.AWSSecret
	if got != was {
		t.Error("another secret has changed")
	}
}

func TestAWSKeyInForce(t *testing.T) {
	made := secrets{AWSAccessKey: "SPILLWAYMADEATSTART0", AWSSecret: "made"}
	id, secret := "AKIDFROMSETTINGS", strings.Repeat("s", 40)
	set, err := parse(t, map[string]string{"SPILLWAY_AWS_ACCESS_KEY_ID": id, "SPILLWAY_AWS_SECRET_ACCESS_KEY": secret})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		cfg    Config
		s      secrets
		key    string
		secret string
	}{
		{Default(), made, made.AWSAccessKey, made.AWSSecret},
		{Default(), made, id, ""},
		{Default(), made, "", ""},
		{Default(), secrets{}, "", ""},
		{set, made, id, secret},
		{set, made, made.AWSAccessKey, ""},
	} {
		got, ok := awsKeys(tc.cfg, tc.s)(tc.key)
		if got != tc.secret || ok != (tc.secret != "") {
			t.Errorf("key %q has the secret %q, %t; want %q", tc.key, got, ok, tc.secret)
		}
	}
}

func TestAWSKeyOfTheSettingsIsChecked(t *testing.T) {
	const id, secret = "AKIDFROMSETTINGS", "0123456789abcdef"
	for name, tc := range map[string]struct{ id, secret, says string }{
		"both":              {id, secret, ""},
		"none":              {"", "", ""},
		"no secret":         {id, "", "set both or none"},
		"no id":             {"", secret, "set both or none"},
		"short id":          {"AKID", secret, "16 to 128 letters"},
		"id with a slash":   {"AKID/FROM/SETTINGS", secret, "16 to 128 letters"},
		"short secret":      {id, "secret", "16 or more visible"},
		"secret with space": {id, "0123456789 abcdef", "16 or more visible"},
	} {
		environ := map[string]string{"SPILLWAY_AWS_ACCESS_KEY_ID": tc.id, "SPILLWAY_AWS_SECRET_ACCESS_KEY": tc.secret}
		if _, err := parse(t, environ); (err == nil) != (tc.says == "") || err != nil && !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v; want %q", name, err, tc.says)
		}
	}
}

func TestLocalURL(t *testing.T) {
	for listen, want := range map[string]string{
		"127.0.0.1:8080": "http://127.0.0.1:8080", "0.0.0.0:80": "http://127.0.0.1:80", "[::]:80": "http://127.0.0.1:80",
		":8080": "http://127.0.0.1:8080", "[::1]:80": "http://[::1]:80", "gpu.example:80": "http://gpu.example:80",
	} {
		if got := localURL(listen); got != want {
			t.Errorf("%s is reached at %s, want %s", listen, got, want)
		}
	}
}
