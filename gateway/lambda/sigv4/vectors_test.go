package sigv4

import (
	"strings"
	"testing"
	"time"
)

// Requests and signatures of AWS's published test suite for Signature Version 4,
// which all have the key, the time and the scope below. Those with paths that are
// encoded once only, or made shorter, are not of services like this one.
func TestPublishedVectors(t *testing.T) {
	const (
		secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
		always = "Host:example.amazonaws.com\r\nX-Amz-Date:20150830T123600Z\r\n"
	)
	v := New(func(id string) (string, bool) { return secret, id == "AKIDEXAMPLE" },
		func() time.Time { return time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC) })
	v.service = "service"
	for name, tc := range map[string]struct{ request, signed, signature string }{
		"get-vanilla":                      {"GET / HTTP/1.1\r\n" + always + "\r\n", "host;x-amz-date", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
		"post-vanilla":                     {"POST / HTTP/1.1\r\n" + always + "\r\n", "host;x-amz-date", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"},
		"get-vanilla-query-order-key-case": {"GET /?Param2=value2&Param1=value1 HTTP/1.1\r\n" + always + "\r\n", "host;x-amz-date", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"},
		"get-vanilla-empty-query-key":      {"GET /?Param1=value1 HTTP/1.1\r\n" + always + "\r\n", "host;x-amz-date", "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb"},
		"get-header-key-duplicate":         {"GET / HTTP/1.1\r\n" + always + "My-Header1:value2\r\nMy-Header1:value2\r\nMy-Header1:value1\r\n\r\n", "host;my-header1;x-amz-date", "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea"},
		"get-header-value-trim":            {"GET / HTTP/1.1\r\n" + always + "My-Header1: value1\r\nMy-Header2: \"a   b   c\"\r\n\r\n", "host;my-header1;my-header2;x-amz-date", "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"},
		"post-header-key-sort":             {"POST / HTTP/1.1\r\n" + always + "My-Header1:value1\r\n\r\n", "host;my-header1;x-amz-date", "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c"},
		"post-x-www-form-urlencoded":       {"POST / HTTP/1.1\r\nContent-Type:application/x-www-form-urlencoded\r\n" + always + "Content-Length: 13\r\n\r\nParam1=value1", "content-type;host;x-amz-date", "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"},
	} {
		t.Run(name, func(t *testing.T) {
			r, body, err := arrive([]byte(strings.Replace(tc.request, "\r\n", "\r\nAuthorization: AWS4-HMAC-SHA256 "+
				"Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders="+tc.signed+", Signature="+tc.signature+"\r\n", 1)))
			if err != nil {
				t.Fatal(err)
			}
			if id, err := v.Verify(r, body); err != nil || id.AccessKeyID != "AKIDEXAMPLE" {
				t.Errorf("it is from %+v, %v", id, err)
			}
		})
	}
}
