package sigv4

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// awscliPath is where Debian's package awscli has the program. Another aws on
// PATH may be of another make and age.
const awscliPath = "/usr/bin/aws"

// needCLI skips the test where there is no AWS command line, or fails it when
// REQUIRE_AWSCLI=1.
func needCLI(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(awscliPath); err == nil {
		return
	}
	const why = "no AWS command line: run deploy/setup.sh test, or install Debian's package awscli"
	if os.Getenv("REQUIRE_AWSCLI") == "1" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// What a program of others signs is verified, and what it is told of a refusal is
// what it tells the user.
func TestTheCommandLineOfAWS(t *testing.T) {
	needCLI(t)
	v := New(testKeys, time.Now)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("read the body: %v", err)
		}
		id, err := v.Verify(r, body)
		var refused *Error
		if errors.As(err, &refused) {
			w.Header().Set("X-Amzn-ErrorType", refused.Code)
			w.WriteHeader(refused.Status)
			_ = json.NewEncoder(w).Encode(map[string]string{"message": refused.Message})
			return
		}
		w.Header().Set("X-Amz-Executed-Version", id.Region)
		_ = json.NewEncoder(w).Encode(map[string]any{"Functions": []string{}})
	}))
	defer srv.Close()
	home := t.TempDir()
	if err := os.WriteFile(filepath.Join(home, "event"), []byte("{\"name\": \"名前\\u0000\"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	aws := func(key, secret string, args ...string) (string, error) {
		cmd := exec.Command(awscliPath, append([]string{"--endpoint-url", srv.URL, "--output", "json", "--no-cli-pager", "lambda"}, args...)...)
		cmd.Dir = home
		cmd.Env = []string{
			"PATH=/usr/bin:/bin", "HOME=" + home, "LC_ALL=C.UTF-8", "AWS_DEFAULT_REGION=eu-central-1", "AWS_MAX_ATTEMPTS=1",
			"AWS_ACCESS_KEY_ID=" + key, "AWS_SECRET_ACCESS_KEY=" + secret, "AWS_EC2_METADATA_DISABLED=true",
		}
		var all bytes.Buffer
		cmd.Stdout, cmd.Stderr = &all, &all
		err := cmd.Run()
		return all.String(), err
	}
	for _, tc := range []struct {
		name, key, secret string
		args              []string
		says              string
	}{
		{"invoke by ARN", testKey, testSecret, []string{"invoke", "--function-name", testARN, "--qualifier", "$LATEST", "--log-type", "Tail",
			"--client-context", "eyJhIjogMX0=", "--payload", "fileb://event", "out"}, `"ExecutedVersion": "eu-central-1"`},
		{"list with parameters", testKey, testSecret, []string{"list-functions", "--function-version", "ALL", "--page-size", "3"}, `"Functions": []`},
		{"wrong secret", testKey, "wrong", []string{"list-functions"}, "(InvalidSignatureException)"},
		{"unknown key", "AKIDEXAMPLE", testSecret, []string{"list-functions"}, "(UnrecognizedClientException)"},
	} {
		out, err := aws(tc.key, tc.secret, tc.args...)
		if failed := strings.HasPrefix(tc.says, "("); !strings.Contains(out, tc.says) || (err != nil) != failed {
			t.Errorf("%s: %v: %s; want %s", tc.name, err, out, tc.says)
		}
	}
}
