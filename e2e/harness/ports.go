package harness

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// Ports that the kernel gives to nobody by itself (it begins at 32768): until a
// process that is told of one listens there, no connection and no listener of
// another can come to have it by chance.
const firstPort, lastPort = 20000, 32000

var (
	givenMu sync.Mutex
	given   = map[int]bool{} // to somebody in this process, who may not listen yet
)

// FreePorts picks two free loopback addresses.
func FreePorts() (*Ports, error) {
	gateway, err := freePort()
	if err != nil {
		return nil, err
	}
	store, err := freePort()
	if err != nil {
		return nil, err
	}
	return &Ports{Gateway: gateway, Store: store}, nil
}

func freePort() (string, error) {
	givenMu.Lock()
	defer givenMu.Unlock()
	var err error
	for range 100 {
		port := firstPort + rand.IntN(lastPort-firstPort)
		if given[port] {
			continue
		}
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		var ln net.Listener
		if ln, err = net.Listen("tcp", addr); err == nil {
			ln.Close()
			given[port] = true
			return addr, nil
		}
	}
	return "", fmt.Errorf("find a free port: %w", err)
}
