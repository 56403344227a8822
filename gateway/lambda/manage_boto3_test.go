package lambda

import (
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestBoto3ManagesFunctions makes every call with Debian's python3-boto3.
func TestBoto3ManagesFunctions(t *testing.T) {
	const python = "/usr/bin/python3" // another python3 may be on PATH; the test wants Debian's
	if out, err := exec.Command(python, "-c", "import boto3").CombinedOutput(); err != nil {
		if os.Getenv("REQUIRE_BOTO3") != "" {
			t.Fatalf("no boto3 (./deploy/setup.sh test installs it): %v %s", err, out)
		}
		t.Skip("Debian's python3-boto3 is not installed; ./deploy/setup.sh test installs it")
	}
	k := newKept()
	server := httptest.NewServer(managed(k, keptSettings{k}))
	defer server.Close()
	out, err := exec.CommandContext(t.Context(), python, "testdata/manage.py", server.URL).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "managed a function") {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}
