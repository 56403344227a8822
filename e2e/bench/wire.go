package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// wire is one kept-alive connection that sends the same request again and
// again. It shares the machine with the server that is measured: net/http's
// client would take as much of it as the server does.
type wire struct {
	conn    net.Conn
	in      *bufio.Reader
	request []byte
	body    []byte // of the last answer; overwritten by the next
}

// dial connects to a gateway's URL and prepares a POST of a JSON event.
func dial(ctx context.Context, gateway, path, event string, header ...string) (*wire, error) {
	host := strings.TrimPrefix(gateway, "http://")
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", host)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n", path, host, len(event))
	for _, h := range header {
		b.WriteString(h + "\r\n")
	}
	b.WriteString("\r\n" + event)
	return &wire{conn: conn, in: bufio.NewReader(conn), request: b.Bytes()}, nil
}

// call sends the request once and reads its answer, which must be a success.
func (w *wire) call() error {
	if _, err := w.conn.Write(w.request); err != nil {
		return err
	}
	status, err := w.in.ReadString('\n')
	if err != nil {
		return err
	}
	length := -1
	for {
		line, err := w.in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) <= 2 {
			break
		}
		if v, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(v))); err != nil {
				return err
			}
		}
	}
	if length < 0 {
		return fmt.Errorf("answer without a length: %s", status)
	}
	if cap(w.body) < length {
		w.body = make([]byte, length)
	}
	w.body = w.body[:length]
	if _, err := io.ReadFull(w.in, w.body); err != nil {
		return err
	}
	if !strings.HasPrefix(status, "HTTP/1.1 2") {
		return fmt.Errorf("%s: %s", strings.TrimSpace(status), w.body)
	}
	return nil
}

// load sends n requests over so many connections and returns the rate and how
// long each took, in milliseconds.
func load(ctx context.Context, clients, n int, open func() (*wire, error)) (rate float64, took []float64, err error) {
	wires := make([]*wire, clients)
	for i := range wires {
		if wires[i], err = open(); err != nil {
			return 0, nil, err
		}
		defer wires[i].conn.Close()
	}
	stop := context.AfterFunc(ctx, func() { // unblocks every read
		for _, w := range wires {
			w.conn.Close()
		}
	})
	defer stop()
	var mu sync.Mutex // guards took and err
	var wg sync.WaitGroup
	began := time.Now()
	for i, w := range wires {
		share := n / clients
		if i < n%clients {
			share++
		}
		wg.Go(func() {
			mine, e := make([]float64, 0, share), error(nil)
			for len(mine) < share && e == nil {
				at := time.Now()
				e = w.call()
				mine = append(mine, ms(time.Since(at)))
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, mine...)
			if err == nil {
				err = e
			}
		})
	}
	wg.Wait()
	return float64(n) / time.Since(began).Seconds(), took, err
}
