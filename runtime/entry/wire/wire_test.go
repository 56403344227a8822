package wire

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestFrames(t *testing.T) {
	var stream []byte
	payloads := []string{"", "a", strings.Repeat("x", MaxFrame)}
	for i, p := range payloads {
		stream = AppendFrame(stream, Kind('0'+i), []byte(p))
	}
	r := bytes.NewReader(stream)
	var buf []byte
	for i, p := range payloads {
		kind, got, err := ReadFrame(r, buf)
		if err != nil || kind != Kind('0'+i) || string(got) != p {
			t.Fatalf("frame %d: kind %q, %d bytes, %v", i, kind, len(got), err)
		}
		buf = got
	}
	if _, _, err := ReadFrame(r, buf); !errors.Is(err, io.EOF) {
		t.Errorf("after the last: %v, want EOF", err)
	}
	for _, cut := range []int{3, HeaderSize, HeaderSize + 7} {
		if _, _, err := ReadFrame(bytes.NewReader(stream[len(stream)-len(payloads[2])-HeaderSize:][:cut]), nil); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut after %d bytes: %v, want an unexpected end", cut, err)
		}
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add(AppendFrame(nil, KindHello, []byte(`{"v":1}`)))
	f.Add([]byte{'h', 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		var again []byte
		for {
			kind, payload, err := ReadFrame(r, nil)
			if err != nil {
				break
			}
			again = AppendFrame(again, kind, payload)
		}
		if !bytes.HasPrefix(data, again) {
			t.Errorf("read back %q from %q", again, data)
		}
	})
}
