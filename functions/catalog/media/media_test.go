package media

import (
	"encoding/binary"
	"errors"
	"image/png"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/spillway/spillway/functions/catalog/task"
)

// wav writes one second of a tone, or of silence when loud is 0.
func wav(t *testing.T, loud float64) string {
	t.Helper()
	const rate = 48000
	b := []byte("RIFF\x00\x00\x00\x00WAVEfmt ")
	b = binary.LittleEndian.AppendUint32(b, 16)
	b = binary.LittleEndian.AppendUint16(b, 1)
	b = binary.LittleEndian.AppendUint16(b, 1)
	b = binary.LittleEndian.AppendUint32(b, rate)
	b = binary.LittleEndian.AppendUint32(b, 2*rate)
	b = binary.LittleEndian.AppendUint16(b, 2)
	b = binary.LittleEndian.AppendUint16(b, 16)
	b = append(b, "data"...)
	b = binary.LittleEndian.AppendUint32(b, 2*rate)
	for i := range rate {
		b = binary.LittleEndian.AppendUint16(b, uint16(int16(loud*32767*math.Sin(2*math.Pi*997*float64(i)/rate))))
	}
	binary.LittleEndian.PutUint32(b[4:], uint32(len(b)-8))
	file := filepath.Join(t.TempDir(), "-odd name: 1.wav")
	if err := os.WriteFile(file, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func needFFmpeg(t *testing.T) {
	t.Helper()
	for _, p := range []string{"ffmpeg", "ffprobe"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("no %s here (package ffmpeg)", p)
		}
	}
}

func TestProbeAndLoudnessOfATone(t *testing.T) {
	needFFmpeg(t)
	file := wav(t, 0.1) // a tone 20 dB under full scale
	info, err := Probe(file)
	if err != nil {
		t.Fatal(err)
	}
	if info.Format != "wav" || math.Abs(info.Duration-1) > 0.01 || !info.Has("audio") || info.Has("video") || info.Streams[0].SampleRate != 48000 {
		t.Errorf("got %+v", info)
	}
	l, err := MeasureLoudness(file)
	if err != nil {
		t.Fatal(err)
	}
	// EBU Tech 3341: a 1 kHz tone at -20 dBFS on one channel measures 3 LU below the -20 LUFS of two.
	if l.Integrated == nil || math.Abs(*l.Integrated+23) > 0.5 || l.TruePeak == nil || math.Abs(*l.TruePeak+20) > 0.5 {
		t.Errorf("loudness %v, peak %v; want -23 and -20", l.Integrated, l.TruePeak)
	}
	silence, err := MeasureLoudness(wav(t, 0))
	if err != nil || silence.Integrated != nil {
		t.Errorf("silence: %+v (%v)", silence, err)
	}
}

func TestWaveformHasTheSizeAsked(t *testing.T) {
	needFFmpeg(t)
	out := filepath.Join(t.TempDir(), "-w.png")
	if err := Waveform(wav(t, 0.5), out, Size{Width: 300, Height: 50}); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cfg, err := png.DecodeConfig(f)
	if err != nil || cfg.Width != 300 || cfg.Height != 50 {
		t.Errorf("%d x %d (%v), want 300 x 50", cfg.Width, cfg.Height, err)
	}
}

func TestPreviewOfAFilm(t *testing.T) {
	needFFmpeg(t)
	dir := t.TempDir()
	film, small := filepath.Join(dir, "film.mkv"), filepath.Join(dir, "small.mp4")
	if out, err := exec.Command("ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=640x360:rate=10:duration=3", film).CombinedOutput(); err != nil {
		t.Fatalf("make a film: %v\n%s", err, out)
	}
	encoder, err := Preview(film, small, task.CPU, 120, 1)
	if err != nil || encoder != X264 {
		t.Fatalf("encoder %q (%v)", encoder, err)
	}
	info, err := Probe(small)
	if err != nil || info.Streams[0].Height != 120 || info.Streams[0].Width != 214 || info.Duration > 1.2 {
		t.Errorf("preview is %+v (%v)", info, err)
	}
}

func TestWhatIsNoMediaIsAFault(t *testing.T) {
	needFFmpeg(t)
	for name, body := range map[string]string{
		"empty": "", "text": "hello world\n", "pdf": "%PDF-1.7\n", "binary": "\x00\x01\x02\x03",
		"a playlist of other files": "#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", "subtitles": "1\n00:00:01,000 --> 00:00:02,000\nhi\n",
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "file")
			if err := os.WriteFile(file, []byte(body), 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := Probe(file)
			if f, ok := errors.AsType[*task.Fault](err); !ok || f.Type != "NotMedia" || f.Code != task.ExitData {
				t.Errorf("got %v, want NotMedia", err)
			}
		})
	}
}

func TestAGPUThatIsNotThereIsNotWorkedAround(t *testing.T) {
	needFFmpeg(t)
	if _, err := os.Stat("/dev/nvidia0"); err == nil {
		t.Skip("there is a GPU here")
	}
	if err := RequireDevice(task.CPU); err != nil {
		t.Errorf("CPU: %v", err)
	}
	err := RequireDevice(task.GPU)
	if f, ok := errors.AsType[*task.Fault](err); !ok || f.Code != task.ExitDevice {
		t.Errorf("GPU: %v, want exit %d", err, task.ExitDevice)
	}
}

func TestParseProbe(t *testing.T) {
	got, err := parseProbe([]byte(`{"streams":[
		{"codec_type":"video","codec_name":"h264","width":640,"height":360,"avg_frame_rate":"30000/1001","bit_rate":"1000"},
		{"codec_type":"video","codec_name":"mjpeg","avg_frame_rate":"0/0","disposition":{"attached_pic":1}},
		{"codec_type":"audio","codec_name":"aac","sample_rate":"44100","channels":2,"duration":"N/A"}],
		"format":{"format_name":"mov,mp4","duration":"2.5","size":"100","bit_rate":"-1"}}`))
	if err != nil {
		t.Fatal(err)
	}
	want := Info{Format: "mov,mp4", Duration: 2.5, Size: 100, Streams: []Stream{
		{Kind: "video", Codec: "h264", Width: 640, Height: 360, FrameRate: 30000.0 / 1001, BitRate: 1000},
		{Kind: "video", Codec: "mjpeg", Picture: true},
		{Kind: "audio", Codec: "aac", SampleRate: 44100, Channels: 2},
	}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if (Info{Streams: want.Streams[1:2]}).Has("video") {
		t.Error("a cover picture was taken for a film")
	}
	if _, err := parseProbe([]byte("no JSON")); err == nil {
		t.Error("nonsense was read")
	}
}

func TestParseLoudness(t *testing.T) {
	l, err := parseLoudness("noise { \n[Parsed_loudnorm_0 @ 0x1] \n{\n\t\"input_i\" : \"-20.38\",\n\t\"input_tp\" : \"-inf\",\n\t\"input_lra\" : \"1.70\"\n}\nend")
	if err != nil || l.Integrated == nil || *l.Integrated != -20.38 || l.TruePeak != nil || *l.Range != 1.7 {
		t.Errorf("got %+v (%v)", l, err)
	}
	for _, bad := range []string{"", "{", "{]"} {
		if _, err := parseLoudness(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestWordsOfFFmpeg(t *testing.T) {
	// Texts of ffmpeg 5.1 on machines without a usable GPU.
	for said, device := range map[string]bool{
		"[AVHWDeviceContext @ 0x5591] Cannot load libcuda.so.1\nDevice creation failed: -1.":                              true,
		"[h264_nvenc @ 0x1] dl_fn->cuda_dl->cuInit(0) failed -> CUDA_ERROR_NO_DEVICE: no CUDA-capable device is detected": true,
		"Cannot load libnvcuvid.so.1":                        true,
		"file.mp4: Invalid data found when processing input": false,
		"": false,
	} {
		if got := deviceFault(said); got != device {
			t.Errorf("%q: %t, want %t", said, got, device)
		}
	}
	if got := first("[AVHWDeviceContext @ 0x5591] Cannot load libcuda.so.1\nDevice creation failed: -1."); got != "Cannot load libcuda.so.1" {
		t.Errorf("first line is %q", got)
	}
}
