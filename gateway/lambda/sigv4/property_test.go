package sigv4

import (
	"bytes"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestWhatTheSDKSignsVerifies(t *testing.T) {
	v := newTest()
	rapid.Check(t, func(t *rapid.T) {
		c := anyCall(t)
		r, body := c.arrived(t)
		got, err := v.Verify(r, body)
		if want := (Identity{AccessKeyID: testKey, Region: c.region}); err != nil || got != want {
			t.Fatalf("%s %s is from %+v, %v; want %+v", r.Method, r.RequestURI, got, err, want)
		}
	})
}

// Bytes all over signed requests are changed, one at a time. What still verifies
// must mean the same to a handler, as %2f and %2F do.
func TestAChangedByteDoesNotVerify(t *testing.T) {
	const stride = 7
	v := newTest()
	rapid.Check(t, func(t *rapid.T) {
		wire := anyCall(t).wire(t)
		flip := byte(1) << rapid.IntRange(0, 6).Draw(t, "bit")
		first := rapid.IntRange(0, stride-1).Draw(t, "first")
		r, body, err := arrive(wire)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.Verify(r, body); err != nil {
			t.Fatal(err)
		}
		want := meaning(t, r, body)
		refused := 0
		for i := first; i < len(wire); i += stride {
			changed := bytes.Clone(wire)
			changed[i] ^= flip
			r, body, err := arrive(changed)
			if err != nil {
				continue // no request any more
			}
			if _, err := v.Verify(r, body); err != nil {
				refused++
				continue
			}
			if got := meaning(t, r, body); !reflect.DeepEqual(got, want) {
				t.Fatalf("byte %d changed and it still verifies:\n%q\nwas\n%q", i, changed, wire)
			}
		}
		if refused < 64/stride { // the signature alone has that many
			t.Fatalf("only %d changes were refused", refused)
		}
	})
}

// meaning is all of a request that is signed, in a form that says the same for
// what handlers take for the same.
func meaning(t *rapid.T, r *http.Request, body []byte) map[string]any {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		t.Fatal(err)
	}
	sorted := map[string][]string{}
	for name, values := range query {
		sorted[name] = slices.Sorted(slices.Values(values))
	}
	m := map[string]any{"method": r.Method, "path": r.URL.EscapedPath(), "query": sorted, "body": string(body), "host": r.Host, "length": r.ContentLength}
	_, signed, _ := strings.Cut(r.Header.Get("Authorization"), "SignedHeaders=")
	signed, _, _ = strings.Cut(signed, ",")
	for name := range strings.SplitSeq(signed, ";") {
		if name == "content-length" { // 1 and 01 are one
			continue
		}
		var values []string
		for _, value := range r.Header.Values(name) {
			values = append(values, strings.Join(strings.Fields(value), " "))
		}
		m["header "+name] = values
	}
	return m
}
