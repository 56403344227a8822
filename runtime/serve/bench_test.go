package serve

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/functions"
)

// plainServer runs the test server as a process of this machine, without a
// container, and returns its address: what an invocation costs at the least.
func plainServer(b *testing.B) string {
	b.Helper()
	program := filepath.Join(b.TempDir(), "server")
	if out, err := exec.Command("go", "build", "-o", program, testdata+"server").CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	addr := free.Addr().String()
	free.Close()
	p := exec.Command(program)
	p.Env = append(os.Environ(), "PORT="+addr[strings.LastIndexByte(addr, ':')+1:])
	if err := p.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { p.Process.Kill(); _ = p.Wait() })
	for until := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if conn, err := net.Dial("tcp", addr); err == nil {
			conn.Close()
			return addr
		} else if time.Now().After(until) {
			b.Fatal(err)
		}
	}
}

// BenchmarkWarm compares, taken in turns, an invocation of a container that
// waits with a POST to the same program on loopback by net/http alone. words is
// the part that waits for what the program has written, which the other figures
// leave out.
func BenchmarkWarm(b *testing.B) {
	addr := plainServer(b)
	client := &http.Client{Transport: &http.Transport{}}
	b.Cleanup(client.CloseIdleConnections)
	plain := func() error {
		res, err := client.Post("http://"+addr+"/", "application/json", strings.NewReader("{}"))
		if err != nil {
			return err
		}
		defer res.Body.Close()
		_, err = io.Copy(io.Discard, res.Body)
		return err
	}
	http, lambda := newWorld(b, "server"), newWorld(b, "lambda")
	web := http.start(b, http.plan(functions.Spec{Contract: functions.HTTPContract}))
	fn := lambda.start(b, lambda.plan(functions.Spec{Contract: functions.LambdaContract}))
	contender := func(i *Instance) func() error {
		return func() error { _, err := i.speaks.Invoke(b.Context(), request("{}")); return err }
	}
	ways := []struct {
		name string
		call func() error
		took []time.Duration
	}{
		{name: "plain", call: plain},
		{name: "http", call: contender(web)},
		{name: "lambda", call: contender(fn)},
		{name: "words", call: func() error { return web.session.Flush(b.Context()) }},
		{name: "http+words", call: func() error { _, err := web.Invoke(b.Context(), request("{}"), Words{}); return err }},
	}
	for b.Loop() {
		for w := range ways {
			began := time.Now()
			if err := ways[w].call(); err != nil {
				b.Fatalf("%s: %v", ways[w].name, err)
			}
			ways[w].took = append(ways[w].took, time.Since(began))
		}
	}
	var floor time.Duration
	for _, w := range ways {
		slices.Sort(w.took)
		p50, p99 := w.took[len(w.took)/2], w.took[len(w.took)*99/100]
		if w.name == "plain" {
			floor = p50
		}
		b.ReportMetric(float64(p50.Microseconds()), w.name+"-p50-us")
		b.ReportMetric(float64(p99.Microseconds()), w.name+"-p99-us")
		b.Log(fmt.Sprintf("%-10s %6d µs p50 %6d µs p99 %5.2f of plain", w.name, p50.Microseconds(), p99.Microseconds(), float64(p50)/float64(floor)))
	}
}
