package main

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// noise writes the bytes that rand.ChaCha8 makes of a seed.
func noise(to io.Writer, mib, seed int) int {
	source := rand.NewChaCha8([32]byte{byte(seed)})
	if _, err := io.CopyN(to, source, int64(mib)<<20); err != nil {
		return bad(err)
	}
	return 0
}

func digest() int {
	sum := sha256.New()
	n, err := io.Copy(sum, bufio.NewReader(os.Stdin))
	if err != nil {
		return bad(err)
	}
	fmt.Printf("%d %x\n", n, sum.Sum(nil))
	return 0
}

// relay asks process 1 for a signal, as whoever stops a container does, and
// expects it to hand the signal on to this program.
func relay(number int) int {
	back := make(chan os.Signal, 1)
	signal.Notify(back, syscall.Signal(number))
	if err := syscall.Kill(1, syscall.Signal(number)); err != nil {
		return bad(err)
	}
	limit := time.NewTimer(30 * time.Second)
	defer limit.Stop()
	select {
	case s := <-back:
		fmt.Println("received", s)
		return 0
	case <-limit.C:
		fmt.Println("lost", syscall.Signal(number))
		return 1
	}
}
