package media

import (
	"fmt"
	"os/exec"

	"github.com/spillway/spillway/functions/catalog/task"
)

// Size is in pixels.
type Size struct{ Width, Height int }

// Waveform draws the first sound of the file as a PNG.
func Waveform(file, png string, s Size) error {
	filter := fmt.Sprintf("[0:a:0]aformat=channel_layouts=mono,showwavespic=s=%dx%d:scale=sqrt:colors=0x2f6fdf[wave]", s.Width, s.Height)
	cmd := exec.Command("ffmpeg", "-v", "error", "-nostdin", "-y", "-protocol_whitelist", protocols,
		"-i", fileURL(file), "-filter_complex", filter, "-map", "[wave]", "-frames:v", "1", "-f", "image2", "-c:v", "png", fileURL(png))
	if _, stderr, err := run(cmd); err != nil {
		return notMedia(err, stderr)
	}
	return nil
}

// Encoder is what made a preview.
type Encoder string

const (
	X264  Encoder = "libx264"
	NVENC Encoder = "h264_nvenc"
)

// Preview makes a small H.264 film of the first seconds of the file's film,
// height pixels high. On a GPU it decodes there and encodes with NVENC; data
// centre GPUs such as the A100 and H100 decode but have no encoder, and then
// the encoder alone is the CPU's, which the answer says.
func Preview(file, mp4 string, d task.Device, height, seconds int) (Encoder, error) {
	encode := func(e Encoder) (string, error) {
		args := append([]string{"-v", "error", "-nostdin", "-y"}, decodeArgs(d)...)
		args = append(args, "-protocol_whitelist", protocols, "-t", fmt.Sprint(seconds), "-i", fileURL(file),
			"-map", "0:V:0", "-an", "-vf", fmt.Sprintf("scale=-2:%d", height), "-pix_fmt", "yuv420p", "-c:v", string(e))
		if e == X264 {
			args = append(args, "-preset", "veryfast", "-crf", "28")
		}
		args = append(args, "-movflags", "+faststart", fileURL(mp4))
		_, stderr, err := run(exec.Command("ffmpeg", args...))
		return stderr, err
	}
	if d == task.GPU {
		if _, err := encode(NVENC); err == nil {
			return NVENC, nil
		}
	}
	stderr, err := encode(X264)
	switch {
	case err == nil:
		return X264, nil
	case d == task.GPU && deviceFault(stderr):
		return "", task.NoDevice("DeviceUnusable", "the GPU failed while decoding: %s", first(stderr))
	}
	return "", notMedia(err, stderr)
}
