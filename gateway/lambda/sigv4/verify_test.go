package sigv4

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestRefusals(t *testing.T) {
	set := func(name, value string) func(*http.Request, *[]byte) {
		return func(r *http.Request, _ *[]byte) { r.Header[name] = []string{value} }
	}
	replace := func(old, new string) func(*http.Request, *[]byte) {
		return func(r *http.Request, _ *[]byte) {
			h := r.Header.Get("Authorization")
			if !strings.Contains(h, old) {
				t.Fatalf("%q is not in %q", old, h)
			}
			r.Header.Set("Authorization", strings.Replace(h, old, new, 1))
		}
	}
	const (
		missing      = "MissingAuthenticationTokenException"
		unrecognized = "UnrecognizedClientException"
		invalid      = "InvalidSignatureException"
		incomplete   = "IncompleteSignatureException"
		mismatch     = "does not match the signature you provided"
	)
	for name, tc := range map[string]struct {
		change func(r *http.Request, body *[]byte)
		code   string
		says   string
	}{
		"no header":         {func(r *http.Request, _ *[]byte) { r.Header.Del("Authorization") }, missing, "Missing Authentication Token"},
		"empty header":      {set("Authorization", ""), missing, "Missing Authentication Token"},
		"another scheme":    {set("Authorization", "Bearer spillway_x"), incomplete, "Unsupported AWS 'algorithm': 'Bearer'"},
		"another algorithm": {replace(algorithm, "AWS4-ECDSA-P256-SHA256"), incomplete, "Unsupported AWS 'algorithm'"},
		"nothing after it":  {set("Authorization", algorithm), incomplete, "missing equal-sign"},
		"two headers": {func(r *http.Request, _ *[]byte) {
			r.Header["Authorization"] = append(r.Header["Authorization"], r.Header["Authorization"]...)
		}, incomplete, "more than one Authorization header"},
		"no credential":         {replace("Credential="+testKey+"/20260304/us-east-1/lambda/aws4_request, ", ""), incomplete, "requires 'Credential' parameter"},
		"no signature":          {func(r *http.Request, _ *[]byte) { cutAuthorization(r, ", Signature=") }, incomplete, "requires 'Signature' parameter"},
		"no signed headers":     {replace("SignedHeaders=", "Signed="), incomplete, "unknown or repeated parameter 'Signed'"},
		"a part twice":          {replace("Credential=", "Credential=x, Credential="), incomplete, "unknown or repeated parameter 'Credential'"},
		"short credential":      {replace("/lambda/aws4_request", ""), incomplete, "exactly 5 slash-delimited elements"},
		"long credential":       {replace("/lambda/", "/lambda/lambda/"), incomplete, "exactly 5 slash-delimited elements"},
		"no key in it":          {replace(testKey, ""), incomplete, "exactly 5 slash-delimited elements"},
		"another service":       {replace("/lambda/", "/s3/"), invalid, "scoped to correct service: 'lambda'"},
		"another terminator":    {replace("aws4_request", "aws5_request"), invalid, "valid terminator: 'aws4_request'"},
		"no region":             {replace("us-east-1", ""), invalid, "valid region"},
		"odd region":            {replace("us-east-1", "US East"), invalid, "valid region"},
		"another region":        {replace("us-east-1", "us-east-2"), invalid, mismatch},
		"another day":           {replace("20260304", "20260305"), invalid, "Date in Credential scope does not match"},
		"unknown key":           {replace(testKey, "AKIDEXAMPLE"), unrecognized, "security token included in the request is invalid"},
		"a session token":       {set("X-Amz-Security-Token", "t"), unrecognized, "security token included in the request is invalid"},
		"host unsigned":         {replace("content-type;host;", "content-type;"), invalid, "'Host' or ':authority' must be a 'SignedHeader'"},
		"date unsigned":         {replace(";x-amz-date", ""), invalid, "'X-Amz-Date' must be a 'SignedHeader'"},
		"headers not sorted":    {replace("content-type;host", "host;content-type"), incomplete, "sorted and each once"},
		"a header twice":        {replace("content-type;", "content-type;content-type;"), incomplete, "sorted and each once"},
		"headers in upper case": {replace("content-type", "Content-Type"), incomplete, "in lower case"},
		"an empty name":         {replace("SignedHeaders=", "SignedHeaders=;"), incomplete, "SignedHeaders must be"},
		"a header left out":     {replace("content-type;", ""), invalid, mismatch},
		"a header gone":         {func(r *http.Request, _ *[]byte) { r.Header.Del("X-Amz-Log-Type") }, invalid, "'x-amz-log-type' is in SignedHeaders, but not in the request"},
		"a header again": {func(r *http.Request, _ *[]byte) {
			r.Header.Add("X-Amz-Log-Type", "None")
		}, invalid, mismatch},
		"length gone":    {func(r *http.Request, _ *[]byte) { r.ContentLength = -1 }, invalid, "'content-length' is in SignedHeaders"},
		"another length": {func(r *http.Request, _ *[]byte) { r.ContentLength++ }, invalid, mismatch},
		"short signature": {func(r *http.Request, _ *[]byte) {
			cutAuthorization(r, "Signature=")
			r.Header["Authorization"][0] += "Signature=00ff"
		}, incomplete, "64 hexadecimal digits"},
		"no date":              {func(r *http.Request, _ *[]byte) { r.Header.Del("X-Amz-Date") }, incomplete, "existence of a 'X-Amz-Date' header"},
		"malformed date":       {set("X-Amz-Date", "2026-03-04T23:58:30Z"), incomplete, "ISO-8601 'basic format'"},
		"date with a fraction": {set("X-Amz-Date", "20260304T235830.5Z"), incomplete, "ISO-8601 'basic format'"},
		"two dates":            {func(r *http.Request, _ *[]byte) { r.Header.Add("X-Amz-Date", "20260304T235830Z") }, incomplete, "ISO-8601 'basic format'"},
		"another time":         {set("X-Amz-Date", "20260304T235831Z"), invalid, mismatch},
		"unsigned payload":     {set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD"), invalid, "The body must be signed"},
		"streaming payload":    {set("X-Amz-Content-Sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"), invalid, "The body must be signed"},
		"hash of another body": {set("X-Amz-Content-Sha256", hexHash([]byte("x"))), invalid, "not the SHA-256 of the body"},
		"another body":         {func(_ *http.Request, body *[]byte) { (*body)[0] ^= 1 }, invalid, mismatch},
		"another method":       {func(r *http.Request, _ *[]byte) { r.Method = "PUT" }, invalid, mismatch},
		"another host":         {func(r *http.Request, _ *[]byte) { r.Host = "localhost:8080" }, invalid, mismatch},
		"another path":         {func(r *http.Request, _ *[]byte) { r.URL.Path += "/"; r.URL.RawPath += "/" }, invalid, mismatch},
		"another query":        {func(r *http.Request, _ *[]byte) { r.URL.RawQuery += "&more=" }, invalid, mismatch},
		"unreadable query":     {func(r *http.Request, _ *[]byte) { r.URL.RawQuery += "&x=a;b" }, incomplete, "query string cannot be read"},
		"presigned":            {func(r *http.Request, _ *[]byte) { r.URL.RawQuery += "&X-Amz-Signature=00" }, invalid, "Presigned URLs are not supported"},
	} {
		t.Run(name, func(t *testing.T) {
			r, body := invoke().arrived(t)
			v := newTest()
			if _, err := v.Verify(r, body); err != nil {
				t.Fatalf("before the change: %v", err)
			}
			tc.change(r, &body)
			wantRefusal(t, v, r, body, tc.code, tc.says)
		})
	}
}

// cutAuthorization drops the header's text from where mark begins.
func cutAuthorization(r *http.Request, mark string) {
	head, _, _ := strings.Cut(r.Header.Get("Authorization"), mark)
	r.Header.Set("Authorization", head)
}

func wantRefusal(t *testing.T, v *Verifier, r *http.Request, body []byte, code, says string) {
	t.Helper()
	id, err := v.Verify(r, body)
	var refused *Error
	if !errors.As(err, &refused) || id != (Identity{}) {
		t.Fatalf("it is from %+v, %v; want %s", id, err, code)
	}
	status := http.StatusForbidden
	if code == "IncompleteSignatureException" {
		status = http.StatusBadRequest
	}
	if refused.Code != code || refused.Status != status || !strings.Contains(refused.Message, says) {
		t.Errorf("refused with %d %v; want %d %s: ... %s", refused.Status, refused, status, code, says)
	}
}

func TestClockSkew(t *testing.T) {
	for skew, says := range map[time.Duration]string{
		0: "", -5 * time.Minute: "", 5 * time.Minute: "",
		-5*time.Minute - time.Second: "Signature expired: 20260304T235329Z is now earlier than 20260304T235330Z (20260304T235830Z - 5 min.)",
		5*time.Minute + time.Second:  "Signature not yet current: 20260305T000331Z is still later than 20260305T000330Z (20260304T235830Z + 5 min.)",
		-24 * time.Hour:              "Signature expired",
	} {
		c := invoke()
		c.at = testNow.Add(skew)
		r, body := c.arrived(t)
		if says != "" {
			wantRefusal(t, newTest(), r, body, "InvalidSignatureException", says)
		} else if _, err := newTest().Verify(r, body); err != nil {
			t.Errorf("%s off: %v", skew, err)
		}
	}
}

// Clients write the parts of the header with and without a space.
func TestPartsMayStandClose(t *testing.T) {
	r, body := invoke().arrived(t)
	r.Header.Set("Authorization", strings.ReplaceAll(r.Header.Get("Authorization"), ", ", ","))
	if _, err := newTest().Verify(r, body); err != nil {
		t.Error(err)
	}
}

func TestSigningKeysAreFewAndEarned(t *testing.T) {
	v := newTest()
	for i := range 3 * maxSigningKeys {
		c := invoke()
		c.region = fmt.Sprintf("region-%d", i)
		c.secret = "wrong"
		r, body := c.arrived(t)
		wantRefusal(t, v, r, body, "InvalidSignatureException", "does not match")
	}
	if n := len(v.signer.known); n != 0 {
		t.Errorf("requests that were refused left %d signing keys", n)
	}
	for i := range 3 * maxSigningKeys {
		c := invoke()
		c.region = fmt.Sprintf("region-%d", i)
		for range 2 {
			r, body := c.arrived(t)
			if _, err := v.Verify(r, body); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := len(v.signer.known); n == 0 || n > maxSigningKeys {
		t.Errorf("%d signing keys are kept; want 1 to %d", n, maxSigningKeys)
	}
}

func TestANewSecretReplacesTheOld(t *testing.T) {
	secret := testSecret
	v := New(func(string) (string, bool) { return secret, true }, func() time.Time { return testNow })
	r, body := invoke().arrived(t)
	if _, err := v.Verify(r, body); err != nil {
		t.Fatal(err)
	}
	secret = "another"
	wantRefusal(t, v, r, body, "InvalidSignatureException", "does not match")
}

func TestManyVerifyAtOnce(t *testing.T) {
	v := newTest()
	var wg sync.WaitGroup
	for i := range 8 {
		c := invoke()
		c.region = fmt.Sprintf("region-%d", i%4)
		r, body := c.arrived(t)
		wg.Go(func() {
			for range 20 {
				if id, err := v.Verify(r, body); err != nil || id.Region != c.region {
					t.Errorf("it is from %+v, %v; want %s", id, err, c.region)
				}
			}
		})
	}
	wg.Wait()
}
