package lambda

import (
	"net/url"
	"strings"
	"testing"

	"github.com/spillway/spillway/functions"
)

func TestParseTarget(t *testing.T) {
	long := strings.Repeat("n", 64)
	for _, c := range []struct {
		path, query string
		want        target
		code        string
	}{
		{"echo", "", target{"echo", ""}, ""},
		{"echo", "$LATEST", target{"echo", "$LATEST"}, ""},
		{"echo:3", "", target{"echo", "3"}, ""},
		{"echo:3", "3", target{"echo", "3"}, ""},
		{"echo:live", "", target{"echo", "live"}, ""},
		{long, "", target{functions.Name(long), ""}, ""},
		{"123456789012:function:echo", "7", target{"echo", "7"}, ""},
		{"123456789012:function:echo:7", "", target{"echo", "7"}, ""},
		{"arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Aecho", "", target{"echo", ""}, ""},
		{"arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Aecho%3A%24LATEST", "", target{"echo", "$LATEST"}, ""},
		{"arn:aws-us-gov:lambda:us-gov-west-1:123456789012:function:echo:9", "9", target{"echo", "9"}, ""},

		{"echo:3", "4", target{}, codeInvalidParameter},
		{"echo", "a b", target{}, codeValidation},
		{"echo", strings.Repeat("a", 129), target{}, codeValidation},
		{"", "", target{}, codeValidation},
		{"-echo", "", target{}, codeValidation},
		{long + "n", "", target{}, codeValidation},
		{"a.b", "", target{}, codeValidation},
		{"a%2Fb", "", target{}, codeValidation},
		{"a%zz", "", target{}, codeValidation},
		{"echo:", "", target{}, codeValidation},
		{"echo:a:b", "", target{}, codeValidation},
		{"1234:function:echo", "", target{}, codeValidation},
		{"123456789012:layer:echo", "", target{}, codeValidation},
		{"arn:aws:s3:us-east-1:123456789012:function:echo", "", target{}, codeValidation},
		{"arn:aws:lambda::123456789012:function:echo", "", target{}, codeValidation},
		{"arn:aws:lambda:us-east-1:123456789012:function:echo:1:2", "", target{}, codeValidation},
		{"arn:gcp:lambda:us-east-1:123456789012:function:echo", "", target{}, codeValidation},
		{strings.Repeat("x", 4096), "", target{}, codeValidation},
	} {
		got, e := parseTarget(c.path, c.query)
		code := ""
		if e != nil {
			code = e.code
			if len(e.message) > 700 {
				t.Errorf("%.40q: the message has %d bytes", c.path, len(e.message))
			}
		}
		if got != c.want || code != c.code {
			t.Errorf("%.80q ?%.20q: got %+v, %q, want %+v, %q", c.path, c.query, got, code, c.want, c.code)
		}
	}
}

func FuzzParseTarget(f *testing.F) {
	for _, s := range []string{"echo", "echo:1", "123456789012:function:echo:live", "arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Aecho%3A%24LATEST", "%", ":::::::"} {
		f.Add(s, "$LATEST")
	}
	f.Fuzz(func(t *testing.T, path, qualifier string) {
		got, e := parseTarget(path, qualifier)
		if e != nil {
			if e.status != 400 || got != (target{}) {
				t.Fatalf("%q: %+v with %v", path, got, e)
			}
			return
		}
		if got.Name.Validate() != nil || got.Qualifier != "" && !isQualifier(got.Qualifier) {
			t.Fatalf("%q gives %+v", path, got)
		}
		// What it means, written as an ARN, means the same.
		again, e := parseTarget(url.PathEscape(ARN("eu-west-1", got.Name, got.Qualifier)), "")
		if e != nil || again != got {
			t.Fatalf("%+v as an ARN is %+v, %v", got, again, e)
		}
		if n, ok := got.version(); ok && isAlias(got.Qualifier) || n > 0 && !isNumber(got.Qualifier) {
			t.Fatalf("%+v is version %d and an alias", got, n)
		}
	})
}
