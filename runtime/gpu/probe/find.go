package probe

import (
	"os"
	"os/exec"
	"path/filepath"
)

// Find looks for the programs that read GPUs: gpuprobe in the folder of an
// executable, else in PATH, and nvidia-smi in PATH. What is missing is empty.
func Find(executable string) (program, smi string) {
	program = filepath.Join(filepath.Dir(executable), "gpuprobe")
	if info, err := os.Stat(program); err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
		program = lookup("gpuprobe")
	}
	return program, lookup("nvidia-smi")
}

func lookup(name string) string {
	path, err := exec.LookPath(name)
	if err != nil {
		return ""
	}
	return path
}
