package main

import (
	"bytes"
	"encoding/binary"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// mostAhead is how much of one file is read ahead. What is read counts as the
	// container's memory, though the kernel gives it up for anything else.
	mostAhead = 16 << 20
	// stepAhead is how much a file system is asked for at once; most take no more.
	stepAhead = 128 << 10
	// mostLinks bounds the way from a script by its interpreter to the loader.
	mostLinks = 4
)

// readAhead brings the files of a command to memory, and keeps them open, so that
// what is known of them stays there too: on a file system that is a program, as
// some engines have them, every first look takes long. Nothing is run.
func readAhead(name string) {
	for range mostLinks {
		c, no := prepare([]string{name}, os.Environ(), "")
		if no != nil {
			return // the orders' own command will say it, if it is the same
		}
		fd, err := syscall.Open(c.path, syscall.O_RDONLY|syscall.O_CLOEXEC|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
		if err != nil {
			return
		}
		var info syscall.Stat_t
		if err := syscall.Fstat(fd, &info); err != nil || info.Mode&syscall.S_IFMT != syscall.S_IFREG {
			syscall.Close(fd)
			return
		}
		for at := int64(0); at < min(info.Size, mostAhead); at += stepAhead {
			if unix.Fadvise(fd, at, stepAhead, unix.FADV_WILLNEED) != nil {
				break
			}
		}
		head := make([]byte, 4<<10)
		n, err := syscall.Pread(fd, head, 0)
		if err != nil {
			return
		}
		if name = interpreter(head[:max(n, 0)]); name == "" {
			return
		}
	}
}

// interpreter is what the kernel runs in a file's place, or beside it: that of a
// script, or the loader of a program that is linked dynamically. It finds it in
// the beginning of the file, or not at all.
func interpreter(head []byte) string {
	if script, ok := bytes.CutPrefix(head, []byte("#!")); ok {
		line, _, _ := bytes.Cut(script, []byte("\n"))
		words := strings.Fields(string(line))
		switch {
		case len(words) == 0:
			return ""
		case len(words) == 2 && strings.HasSuffix(words[0], "/env"):
			return words[1]
		}
		return words[0]
	}
	// ELF of 64 bits, little-endian.
	const size, entry, loader = 64, 56, 3 // of the header, of a program header; PT_INTERP
	if len(head) < size || !bytes.HasPrefix(head, []byte("\x7fELF\x02\x01")) {
		return ""
	}
	le := binary.LittleEndian
	at, count := le.Uint64(head[32:]), int(le.Uint16(head[56:]))
	for ; count > 0 && at <= uint64(len(head)-entry); count, at = count-1, at+entry {
		p := head[at:]
		if le.Uint32(p) != loader {
			continue
		}
		from, length := le.Uint64(p[8:]), le.Uint64(p[32:])
		if from > uint64(len(head)) || length > uint64(len(head))-from {
			return ""
		}
		return string(bytes.TrimRight(head[from:from+length], "\x00"))
	}
	return ""
}
