package sigv4

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// What is read says the same when it is written again.
func FuzzReadAuthorization(f *testing.F) {
	r, _ := invoke().arrived(f)
	good := r.Header.Get("Authorization")
	for _, s := range []string{good, strings.ReplaceAll(good, ", ", ","), algorithm, algorithm + " Credential=/////, Signature=", "Bearer x", "", ",=;/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := readAuthorization([]string{s}, "lambda")
		if err != nil {
			if err.Code == "" || err.Message == "" || err.Status < 400 {
				t.Fatalf("refused without a reason: %+v", err)
			}
			return
		}
		again := fmt.Sprintf("%s Credential=%s/%s, SignedHeaders=%s, Signature=%x", algorithm, a.accessKeyID, a.scope(), a.signedHeaders, a.signature)
		b, err := readAuthorization([]string{again}, "lambda")
		if err != nil || a.accessKeyID != b.accessKeyID || a.scope() != b.scope() || a.signedHeaders != b.signedHeaders || !slices.Equal(a.signature, b.signature) {
			t.Fatalf("%q became %q: %v", s, again, err)
		}
	})
}

// Nothing verifies but with a signature that was made.
func FuzzVerify(f *testing.F) {
	v := newTest()
	var made []string
	for _, method := range []string{"POST", "GET"} {
		c := invoke()
		c.method = method
		wire := c.wire(f)
		r, _, err := arrive(wire)
		if err != nil {
			f.Fatal(err)
		}
		made = append(made, r.Header.Get("Authorization")[len(r.Header.Get("Authorization"))-64:])
		f.Add(wire)
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		r, body, err := arrive(wire)
		if err != nil {
			return
		}
		_, err = v.Verify(r, body)
		if err == nil && !slices.ContainsFunc(made, func(s string) bool { return strings.Contains(r.Header.Get("Authorization"), s) }) {
			t.Fatalf("this verifies: %q", wire)
		}
	})
}
