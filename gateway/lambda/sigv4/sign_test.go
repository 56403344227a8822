package sigv4

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"pgregory.net/rapid"
)

const (
	testKey    = "SPILLWAYEXAMPLE00001"
	testSecret = "example+secret/0123456789abcdefghijklmno"
	testHost   = "127.0.0.1:8080"
	testARN    = "arn:aws:lambda:eu-central-1:000000000000:function:resize:7"
)

var testNow = time.Date(2026, 3, 4, 23, 58, 30, 0, time.UTC)

func testKeys(id string) (string, bool) { return testSecret, id == testKey }

func newTest() *Verifier { return New(testKeys, func() time.Time { return testNow }) }

// failer is a test, a benchmark or a check of a property.
type failer interface {
	Helper()
	Fatal(args ...any)
}

// call is a request before it is signed.
type call struct {
	method, target string // target is path and query, encoded
	header         http.Header
	body           []byte
	region         string
	at             time.Time
	secret         string
	service        string
}

// invoke is the call that the tables change.
func invoke() call {
	return call{
		method: "POST", target: "/2015-03-31/functions/" + url.PathEscape(testARN) + "/invocations?Qualifier=7&Empty=",
		header: http.Header{"Content-Type": {"application/json"}, "X-Amz-Log-Type": {"Tail"}, "X-Amz-Client-Context": {"e30="}},
		body:   []byte(`{"n":1}`),
	}
}

// wire signs the call with AWS's own signer and returns what goes over the wire.
func (c call) wire(t failer) []byte {
	t.Helper()
	req, err := http.NewRequest(c.method, "http://"+testHost+c.target, bytes.NewReader(c.body))
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range c.header {
		req.Header[name] = values
	}
	if c.region == "" {
		c.region = "us-east-1"
	}
	if c.at.IsZero() {
		c.at = testNow
	}
	if c.secret == "" {
		c.secret = testSecret
	}
	if c.service == "" {
		c.service = "lambda"
	}
	keys := aws.Credentials{AccessKeyID: testKey, SecretAccessKey: c.secret}
	if err := v4.NewSigner().SignHTTP(context.Background(), keys, req, hexHash(c.body), c.service, c.region, c.at); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := req.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// arrived returns the call as a server gets it.
func (c call) arrived(t failer) (*http.Request, []byte) {
	t.Helper()
	r, body, err := arrive(c.wire(t))
	if err != nil {
		t.Fatal(err)
	}
	return r, body
}

// arrive reads a request as a server does.
func arrive(wire []byte) (*http.Request, []byte, error) {
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(wire)))
	if err != nil {
		return nil, nil, err
	}
	body, err := io.ReadAll(r.Body)
	return r, body, err
}

func hexHash(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// anyCall draws from what clients may send: ARNs, other scripts, spaces, empty and
// repeated parameters, headers with odd spaces, any body.
func anyCall(t *rapid.T) call {
	text := rapid.OneOf(
		rapid.SampledFrom([]string{testARN, "resize", "a b", " ", "名前", "ü/ö?&=#", "100%", "%41", "a+b", "~-._", "*'()!,;:@$", "\"<>\\^`{|}"}),
		rapid.String())
	segments := rapid.SliceOfN(text, 1, 4).Draw(t, "path")
	for i, s := range segments {
		segments[i] = url.PathEscape(s)
	}
	target := "/" + strings.Join(segments, "/")
	var pairs []string
	for _, name := range rapid.SliceOfN(text, 0, 3).Draw(t, "names") {
		for _, value := range rapid.SliceOfN(text, 1, 2).Draw(t, "values") {
			pairs = append(pairs, url.QueryEscape(name)+"="+url.QueryEscape(value))
		}
	}
	if len(pairs) > 0 {
		target += "?" + strings.Join(pairs, "&")
	}
	header := http.Header{}
	value := rapid.StringMatching(`[ -~]{0,12}`)
	for _, name := range []string{"Content-Type", "X-Amz-Invocation-Type", "X-Amz-Client-Context", "Amz-Sdk-Invocation-Id", "X-Twice"} {
		if rapid.Bool().Draw(t, "has "+name) {
			header[name] = rapid.SliceOfN(value, 1, 2).Draw(t, name)
		}
	}
	body := rapid.SliceOfN(rapid.Byte(), 0, 48).Draw(t, "body")
	if rapid.Bool().Draw(t, "hash told") {
		header.Set("X-Amz-Content-Sha256", hexHash(body))
	}
	return call{
		method: rapid.SampledFrom([]string{"GET", "POST", "PUT", "DELETE"}).Draw(t, "method"), target: target, header: header, body: body,
		region: rapid.SampledFrom([]string{"us-east-1", "eu-central-1", "local"}).Draw(t, "region"),
		at:     testNow.Add(time.Duration(rapid.IntRange(-300, 300).Draw(t, "skew")) * time.Second),
	}
}
