package main

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// elfFile is a program's beginning as far as interpreter looks at it.
func elfFile(loader string) []byte {
	b := make([]byte, 64+2*56)
	copy(b, "\x7fELF\x02\x01")
	le := binary.LittleEndian
	le.PutUint64(b[32:], 64) // where the program headers are
	le.PutUint16(b[56:], 2)  // how many
	le.PutUint32(b[64:], 6)
	if loader != "" {
		le.PutUint32(b[64+56:], 3)
		le.PutUint64(b[64+56+8:], uint64(len(b)))
		le.PutUint64(b[64+56+32:], uint64(len(loader)+1))
		b = append(append(b, loader...), 0)
	}
	return b
}

func TestInterpreter(t *testing.T) {
	far := elfFile("/lib/ld.so")
	binary.LittleEndian.PutUint64(far[64+56+8:], 1<<63) // past the end
	late := elfFile("/lib/ld.so")
	binary.LittleEndian.PutUint64(late[32:], 1<<63)
	for name, c := range map[string]struct {
		head []byte
		want string
	}{
		"script":             {[]byte("#!/bin/sh -e\necho"), "/bin/sh"},
		"script, spaces":     {[]byte("#! /bin/sh"), "/bin/sh"},
		"script by name":     {[]byte("#!/usr/bin/env python3\n"), "python3"},
		"script of nothing":  {[]byte("#!\n"), ""},
		"linked dynamically": {elfFile("/lib64/ld.so"), "/lib64/ld.so"},
		"static":             {elfFile(""), ""},
		"loader past end":    {far, ""},
		"headers past end":   {late, ""},
		"cut":                {elfFile("/lib64/ld.so")[:70], ""},
		"text":               {[]byte("hello"), ""},
		"nothing":            {nil, ""},
	} {
		if got := interpreter(c.head); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// inMemory reports which pages of a file are.
func inMemory(t *testing.T, path string) (there, all int) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(data)
	pages := make([]byte, (len(data)+os.Getpagesize()-1)/os.Getpagesize())
	if _, _, no := syscall.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&data[0])), uintptr(len(data)), uintptr(unsafe.Pointer(&pages[0]))); no != 0 {
		t.Fatal(no)
	}
	runtime.KeepAlive(data)
	return bytes.Count(pages, []byte{1}), len(pages)
}

func TestReadAhead(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o755); err != nil {
			t.Fatal(err)
		}
		fd, err := unix.Open(path, unix.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if err := unix.Fsync(fd); err != nil {
			t.Fatal(err)
		}
		if err := unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED); err != nil {
			t.Fatal(err)
		}
		return path
	}
	program := write("program", append(elfFile(""), make([]byte, 1<<20)...))
	write("script", []byte("#!/usr/bin/env program\n"))
	if there, all := inMemory(t, program); there == all {
		t.Skipf("SKIPPED: the file system of %s keeps everything in memory", dir)
	}
	t.Setenv("PATH", dir)
	readAhead("script")
	for until := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		there, all := inMemory(t, program)
		if there == all {
			break
		}
		if time.Now().After(until) {
			t.Fatalf("%d of %d pages are in memory", there, all)
		}
	}
}

// What an image may have in a program's place must not hold up the orders.
func TestReadAheadOfNoProgram(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o755); err != nil {
		t.Fatal(err)
	}
	loop := filepath.Join(dir, "loop")
	if err := os.WriteFile(loop, []byte("#!"+loop), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"pipe", "loop", "none", "."} {
		done := make(chan struct{})
		go func() { defer close(done); readAhead(dir + "/" + name) }()
		select {
		case <-done:
		case <-time.After(time.Minute):
			t.Errorf("%s: it waits", name)
		}
	}
}
