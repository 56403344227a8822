package spec

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/spillway/spillway/functions"
)

const full = `# speech to text
name: speech
description: "Text of speech"
image: registry.example/speech:1.4
entrypoint: [/usr/bin/python3]
command: [transcribe, "{in}", --out, "{out}"]
env:
  THREADS: 4
  LANG: C.UTF-8
  DEBUG: yes
device: fastest
gpu: {count: 1, memory: 6GiB}
cpu_profile:
  command: [transcribe, "{in}", --out, "{out}", --fp32]
  env: {MODEL: small}
  memory: 4GiB
  cpus: 2
  timeout: 1h
spill_after: 0s
spill_queue: 10
limits:
  memory: 2GiB
  cpus: 1.5
timeout: 10m
retries: {max: 2, backoff: 5s}
network: egress
stdout: result
keep_failed_outputs: true
handles: [audio, video]
triggers:
  - bucket: media
    prefix: in/
    content_types: ["audio/*"]
    device: auto
  - bucket: calls
on_success: [{function: summary}]
on_failure:
  - function: alarm
  - {bucket: ends, prefix: failed/}
schedules:
  - {cron: "0 7 * * MON-FRI", timezone: Europe/Berlin, event: {kind: [daily, 2], since: 2026-01-01, no: null}}
  - rate: 5 minutes
`

func TestParseFull(t *testing.T) {
	s, err := Parse([]byte(full))
	if err != nil {
		t.Fatal(err)
	}
	if s.Name != "speech" || s.Env["THREADS"] != "4" || s.Env["DEBUG"] != "yes" || s.GPU.Memory != 6*functions.GiB || *s.SpillAfter != 0 || s.Device != functions.Fastest || s.SpillQueue != 10 ||
		s.CPUProfile.Command[4] != "--fp32" || s.CPUProfile.Timeout.Std() != time.Hour || s.Limits.CPUs != 1.5 || !s.KeepFailed ||
		s.Retries.Max != 2 || s.Triggers[1].Bucket != "calls" || s.OnSuccess[0].Function != "summary" || s.OnFailure[1].Prefix != "failed/" ||
		s.Schedules[1].Rate != "5 minutes" || string(s.Schedules[0].Event) != `{"kind":["daily",2],"no":null,"since":"2026-01-01"}` || s.Handles[1] != functions.Video || s.Contract != functions.TaskContract || s.Limits.Pids != 256 {
		t.Errorf("got %+v", s)
	}
	again, err := write(s)
	if err != nil {
		t.Fatal(err)
	}
	back, err := Parse(again)
	if err != nil || cmp.Diff(s, back) != "" {
		t.Errorf("written and read again: %v\n%s\n%s", err, cmp.Diff(s, back), again)
	}
	asJSON, err := json.MarshalIndent(s, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	if back, err = Parse(asJSON); err != nil || cmp.Diff(s, back) != "" {
		t.Errorf("read from JSON: %v\n%s", err, cmp.Diff(s, back))
	}
}

func TestParseNamesLineAndKey(t *testing.T) {
	const head = "name: f\nimage: i\n"
	for _, c := range []struct {
		name, text, line, field, says string
	}{
		{"unknown key", head + "devise: gpu\n", "line 3", "devise", "not a key"},
		{"unknown key below", head + "limits:\n  memory: 1GiB\n  ram: 1GiB\n", "line 5", "limits.ram", "not a key"},
		{"unknown key in a list", head + "triggers:\n- bucket: inbox\n- bucket: c\n  sufix: x\n", "line 6", "triggers[1].sufix", "not a key"},
		{"twice", head + "timeout: 1s\nname: g\n", "line 4", "name", "twice"},
		{"variable twice", head + "env:\n  A: 1\n  A: 2\n", "line 5", "env.A", "twice"},
		{"text for a number", head + "concurrency: many\n", "line 3", "concurrency", "whole number"},
		{"fraction for a whole number", head + "concurrency: 1.5\n", "line 3", "concurrency", "whole number"},
		{"text for a switch", head + "keep_failed_outputs: perhaps\n", "line 3", "keep_failed_outputs", "true or false"},
		{"text for a float", head + "limits: {cpus: two}\n", "line 3", "limits.cpus", "a number"},
		{"text for a list", head + "command: run it\n", "line 3", "command", "not a list"},
		{"list for a text", head + "network: [none]\n", "line 3", "network", "single value"},
		{"list for a group", head + "limits: [1]\n", "line 3", "limits", "keys"},
		{"group for a size", head + "limits:\n  memory: {a: b}\n", "line 4", "limits.memory", "single value"},
		{"not a size", head + "limits:\n  memory: lots\n", "line 4", "limits.memory", "not a size"},
		{"not a duration", head + "\n\ntimeout: soon\n", "line 5", "timeout", "not a duration"},
		{"hole in a list", head + "command: [a, ~]\n", "line 3", "command[1]", "empty"},
		{"variable is a group", head + "env: {A: {B: c}}\n", "line 3", "env.A", "single value"},
		{"key is a list", head + "? [a]\n: b\n", "line 3", "", "not a key"},
		{"alias", head + "entrypoint: &e [a]\ncommand: *e\n", "line 3", "entrypoint", "aliases"},
		{"merge", head + "limits: {<<: {memory: 1GiB}}\n", "line 3", "limits.<<", "not a key"},
		{"custom tag", head + "description: !secret x\n", "line 3", "description", "tag"},
		{"binary", head + "description: !!binary aGk=\n", "line 3", "description", "tag"},
		{"second document", head + "---\n" + head, "line", "", "second document"},
		{"not YAML", head + "\tx: [\n", "line", "", ""},
		{"a list", "- a\n", "line 1", "", "keys"},
		{"a word", "hello\n", "line 1", "", "keys"},

		{"bad name", "\nname: a/b\nimage: i\n", "line 2", "name", "not a function name"},
		{"no image", "name: f\n", "", "image", "missing"},
		{"memory too small", head + "limits:\n  memory: 1MiB\n", "line 4", "limits.memory", "6MiB"},
		{"reserved variable", head + "env:\n  TASK_ID: x\n", "line 3", "env", "TASK_ID"},
		{"reserved variable on the CPU", head + "cpu_profile:\n  env: {CUDA_VISIBLE_DEVICES: '0'}\n", "line 4", "cpu_profile.env", "CUDA_VISIBLE_DEVICES"},
		{"bad class", head + "handles:\n- audio\n- web\n", "line 5", "handles[1]", "web"},
		{"trigger without bucket", head + "triggers:\n- bucket: inbox\n- prefix: x\n", "line 5", "triggers[1].bucket", "missing"},
		{"destination without a name", head + "on_success:\n- function: b\n- prefix: x\n", "line 5", "on_success[1].function", "missing"},
		{"two destinations in one", head + "on_failure:\n- function: b\n  bucket: ends\n", "line 5", "on_failure[0].bucket", "beside a function"},
		{"bad schedule", head + "schedules:\n- cron: 0 25 * * *\n", "line 4", "schedules[0].cron", "hour"},
		{"event with an alias", head + "schedules:\n- rate: 1 day\n  event:\n    a: &x 1\n", "line 6", "schedules[0].event.a", "anchors"},
		{"event with a tag", head + "schedules:\n- rate: 1 day\n  event: [!!binary aGk=]\n", "line 5", "schedules[0].event[0]", "tag"},
		{"event that JSON has not", head + "schedules:\n- rate: 1 day\n  event: .inf\n", "line 5", "schedules[0].event", "JSON"},
		{"bad content type", head + "triggers:\n- bucket: inbox\n  content_types: [audio]\n", "line 5", "triggers[0].content_types", "type/subtype"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse([]byte(c.text))
			var e *functions.Error
			if !errors.As(err, &e) || !errors.Is(err, functions.ErrInvalid) || e.Code != "bad_spec" {
				t.Fatalf("got %v", err)
			}
			if !strings.HasPrefix(e.Message, c.line) || e.Field != c.field || !strings.Contains(e.Message, c.says) || !strings.Contains(e.Message, e.Field) {
				t.Errorf("got %q with field %q, want %s, field %q, %q", e.Message, e.Field, c.line, c.field, c.says)
			}
		})
	}
}

func TestParseRefusesNothingAndTooMuch(t *testing.T) {
	for _, text := range []string{"", "   \n", "# only words\n", "null", "---\n", "name: f\nimage: i\ndescription: " + strings.Repeat("x", int(MaxSize))} {
		if _, err := Parse([]byte(text)); !errors.Is(err, functions.ErrInvalid) {
			t.Errorf("%.20q: %v", text, err)
		}
	}
	bomb := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		bomb += string(c) + ": &" + string(c) + " [" + strings.TrimSuffix(strings.Repeat("*"+string(c-1)+",", 9), ",") + "]\n"
	}
	began := time.Now()
	if _, err := Parse([]byte(bomb)); !errors.Is(err, functions.ErrInvalid) || time.Since(began) > 5*time.Second {
		t.Errorf("alias bomb: %v after %v", err, time.Since(began))
	}
}

func TestParseEscapedPairs(t *testing.T) {
	text, err := json.Marshal(map[string]string{"name": "f", "image": "i", "description": `\ud83d\ude00 stays, this not: `})
	if err != nil {
		t.Fatal(err)
	}
	text = append(text[:len(text)-1], []byte(`, "env": {"A": "\ud83d\ude00"}}`)...)
	s, err := Parse(text)
	if err != nil || s.Env["A"] != "😀" || s.Description != `\ud83d\ude00 stays, this not: ` {
		t.Errorf("got %q %q, %v", s.Env["A"], s.Description, err)
	}
}

// TestShippedSpecs reads every spec that the catalog holds.
func TestShippedSpecs(t *testing.T) {
	files, err := filepath.Glob("../catalog/*/function.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(text); err != nil {
			t.Errorf("%s: %v", f, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(full))
	f.Add([]byte(`{"name":"f","image":"i","env":{"A":"\ud83d\ude00"}}`))
	f.Add([]byte("a: &a [*a]\n<<: *a"))
	f.Add([]byte("? {a: b}\n: - c"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := Parse(text)
		if err != nil {
			if !errors.Is(err, functions.ErrInvalid) || len(err.Error()) > 4096 {
				t.Fatalf("%v", err)
			}
			return
		}
		if err := s.Validate(); err != nil {
			t.Fatalf("accepted, but %v", err)
		}
		again, err := write(s)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := Parse(again); utf8.Valid(text) && (err != nil || cmp.Diff(s, back) != "") {
			t.Fatalf("%v\n%s\nfrom %q", err, cmp.Diff(s, back), again)
		}
	})
}

// write makes YAML of a spec.
func write(s functions.Spec) ([]byte, error) { return yaml.Marshal(s) }
