package harness

import (
	"net"
	"testing"
)

// TestFreePortsAreGivenOnce, although nobody has begun to listen on them, and can
// be listened on.
func TestFreePortsAreGivenOnce(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		p, err := FreePorts()
		if err != nil {
			t.Fatal(err)
		}
		for _, addr := range []string{p.Gateway, p.Store} {
			if seen[addr] {
				t.Fatalf("%s was given twice", addr)
			}
			seen[addr] = true
		}
		ln, err := net.Listen("tcp", p.Gateway)
		if err != nil {
			t.Fatal(err)
		}
		ln.Close()
	}
}
