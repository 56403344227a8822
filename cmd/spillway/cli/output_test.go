package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"
)

func sample() list {
	return list{
		raw:     json.RawMessage(`{"things":[{"name":"a","size":8589934592},{"name":"漢字","size":1}]}` + "\n"),
		items:   []json.RawMessage{[]byte(`{"name": "a", "size": 8589934592}`), []byte(`{"name":"漢字","size":1}`)},
		names:   []string{"thing/a", "thing/漢字"},
		headers: []string{"NAME", "SIZE", "NOTE"},
		rows:    [][]string{{"a", "8589934592", "long note"}, {"漢字", "1", ""}},
		wide:    2,
	}
}

func TestPrint(t *testing.T) {
	for format, want := range map[string]string{
		"table": "NAME  SIZE\na     8589934592\n漢字  1\n",
		"wide":  "NAME  SIZE        NOTE\na     8589934592  long note\n漢字  1\n",
		"json": `{
  "things": [
    {
      "name": "a",
      "size": 8589934592
    },
    {
      "name": "漢字",
      "size": 1
    }
  ]
}
`,
		"jsonl": `{"name":"a","size":8589934592}` + "\n" + `{"name":"漢字","size":1}` + "\n",
		"yaml":  "things:\n  - name: a\n    size: 8589934592\n  - name: 漢字\n    size: 1\n",
		"name":  "thing/a\nthing/漢字\n",
	} {
		var out, errOut strings.Builder
		if err := sample().print(App{Out: &out, Err: &errOut}, format); err != nil {
			t.Errorf("%s: %v", format, err)
		}
		if diff := cmp.Diff(want, out.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", format, diff)
		}
		if errOut.Len() > 0 {
			t.Errorf("%s: said %q", format, errOut.String())
		}
	}
}

func TestPrintOfNothing(t *testing.T) {
	for format, want := range map[string]string{
		"table": "", "wide": "", "json": "{\n  \"things\": []\n}\n", "jsonl": "", "yaml": "things: []\n", "name": "",
	} {
		var out, errOut strings.Builder
		l := list{raw: json.RawMessage(`{"things":[]}`), items: []json.RawMessage{}}
		if err := l.print(App{Out: &out, Err: &errOut}, format); err != nil || out.String() != want {
			t.Errorf("%s: %q, %v; want %q", format, out.String(), err, want)
		}
		if said := errOut.Len() > 0; said == quiet(format) {
			t.Errorf("%s: said %q", format, errOut.String())
		}
	}
}

// One object without items is one line.
func TestPrintOfOne(t *testing.T) {
	var out strings.Builder
	if err := (list{raw: json.RawMessage("{\n \"id\": 1\n}")}).print(App{Out: &out}, "jsonl"); err != nil || out.String() != "{\"id\":1}\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
}

func TestCheckFormat(t *testing.T) {
	for _, f := range formats {
		if err := checkFormat(f); err != nil {
			t.Errorf("%s: %v", f, err)
		}
	}
	for _, f := range []string{"", "JSON", "prose"} {
		if ExitCode(checkFormat(f)) != 2 {
			t.Errorf("%q is accepted", f)
		}
	}
}

func TestYAMLKeepsWhatWouldReadOtherwise(t *testing.T) {
	raw := `{"z":"true","a":"1","b":"null","c":"","d":null,"e":1e3,"f":0.1,"g":true,"h":{},"i":[],"j":[[1]],"k":"a: b","l":"two\nlines","m":123456789012345678901234567890}`
	var out strings.Builder
	if err := printYAML(&out, json.RawMessage(raw)); err != nil {
		t.Fatal(err)
	}
	want := `z: "true"
a: "1"
b: "null"
c: ""
d: null
e: 1e3
f: 0.1
g: true
h: {}
i: []
j:
  - - 1
k: 'a: b'
l: |-
  two
  lines
m: 123456789012345678901234567890
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, broken := range []string{"", "{", `{"a":`, "[1", "nonsense"} {
		if err := printYAML(&out, json.RawMessage(broken)); err == nil {
			t.Errorf("%q is printed", broken)
		}
	}
}

// Whatever strings a function's metadata holds, YAML reads them back unchanged.
func TestYAMLRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		in := rapid.MapOf(rapid.String(), rapid.SliceOf(rapid.String())).Draw(rt, "value")
		raw, err := json.Marshal(in)
		if err != nil {
			rt.Fatal(err)
		}
		var out strings.Builder
		if err := printYAML(&out, raw); err != nil {
			rt.Fatalf("print %s: %v", raw, err)
		}
		var want, got map[string][]string
		if err := json.Unmarshal(raw, &want); err != nil {
			rt.Fatal(err)
		}
		if err := yaml.Unmarshal([]byte(out.String()), &got); err != nil {
			rt.Fatalf("read back %q: %v", out.String(), err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			rt.Fatalf("(-want +got):\n%s", diff)
		}
	})
}
