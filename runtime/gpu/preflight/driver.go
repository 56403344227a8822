package preflight

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"

	"github.com/spillway/spillway/runtime/gpu/probe"
)

// What is known to lie where, without the leading slash.
const (
	procVersion   = "proc/driver/nvidia/version"
	wslDevice     = "dev/dxg"            // Windows's GPUs, as WSL2 has them
	wslDriver     = "usr/lib/wsl/lib"    // Windows's driver, for Linux programs
	nouveau       = "sys/module/nouveau" // the other driver for these GPUs
	pciVendors    = "sys/bus/pci/devices/*/vendor"
	nvidiaVendor  = "0x10de"
	displayClass  = "0x03" // of PCI devices: a display or 3D controller
	persistenceAt = "run/nvidia-persistenced/socket"
)

var moduleVersion = regexp.MustCompile(`Kernel Module(?: for \S+)?\s+(\d+(?:\.\d+)+)`)

func isWSL(files fs.FS) bool {
	text, err := fs.ReadFile(files, "proc/version")
	return err == nil && strings.Contains(strings.ToLower(string(text)), "microsoft")
}

// driver looks for the kernel module. Its file is there exactly while it is loaded.
func (c *checks) driver(context.Context) (string, error) {
	if c.wsl {
		return c.windowsDriver()
	}
	text, err := fs.ReadFile(c.Files, procVersion)
	if err == nil {
		if v := moduleVersion.FindStringSubmatch(string(text)); v != nil {
			return "the kernel module " + v[1] + " is loaded", nil
		}
		return "the kernel module is loaded", nil
	}
	switch {
	case !c.cardOnBus():
		return "", fail("seat or power the card, or pass it through to this virtual machine; lspci -d 10de: must list it",
			"no NVIDIA GPU is on the PCI bus of this machine")
	case c.exists(nouveau):
		return "", fail("install NVIDIA's driver (deploy/gpu-host.md, step 1), which keeps nouveau off, and reboot", "the driver nouveau has taken the GPU")
	}
	return "", fail("install NVIDIA's driver (deploy/gpu-host.md, step 1); if it is installed, run modprobe nvidia and read dmesg: with Secure Boot the module's key must be enrolled",
		"an NVIDIA GPU is on the PCI bus, and NVIDIA's kernel module is not loaded")
}

// windowsDriver: in WSL2 the driver is Windows's, and Linux has but its libraries.
func (c *checks) windowsDriver() (string, error) {
	switch {
	case !c.exists(wslDevice):
		return "", fail("install NVIDIA's driver in Windows, run wsl --update and wsl --shutdown there, and use WSL 2 (wsl -l -v)", "WSL has no /dev/dxg")
	case !c.exists(wslDriver + "/libcuda.so.1"):
		return "", fail("install NVIDIA's driver in Windows, never a Linux one in WSL, and run wsl --shutdown there", "Windows gives WSL no NVIDIA driver: /%s/libcuda.so.1 is missing", wslDriver)
	}
	return "WSL2, with Windows's driver", nil
}

func (c *checks) cardOnBus() bool {
	vendors, err := fs.Glob(c.Files, pciVendors)
	if err != nil {
		return false
	}
	for _, file := range vendors {
		vendor, err := fs.ReadFile(c.Files, file)
		if err != nil || strings.TrimSpace(string(vendor)) != nvidiaVendor {
			continue
		}
		class, err := fs.ReadFile(c.Files, strings.TrimSuffix(file, "vendor")+"class")
		if err == nil && strings.HasPrefix(string(class), displayClass) {
			return true
		}
	}
	return false
}

// statusFix is what to do when the driver could not be asked.
var statusFix = map[probe.Status]string{
	probe.NoDriver:  "install NVIDIA's driver with its libraries (deploy/gpu-host.md, step 1); nvidia-smi must work",
	probe.NotLoaded: "load the kernel module (modprobe nvidia), and read dmesg if that fails",
	probe.Mismatch:  "reboot: the driver was upgraded and the old kernel module is still loaded",
	probe.Broken:    "run nvidia-smi, and read the kernel's log: dmesg | grep -e NVRM -e Xid",
	probe.Silent:    "run nvidia-smi: if it hangs too, a GPU has left the bus; read dmesg | grep -e NVRM -e Xid, and reboot",
}

// read asks the driver for the GPUs, as the node does.
func (c *checks) read(ctx context.Context) (string, error) {
	r, err := c.Read(ctx)
	switch {
	case errors.Is(err, probe.ErrNotRunning):
		return "", fail("install the driver's tools, which bring nvidia-smi, or put gpuprobe beside spillway (make gpuprobe)", "neither gpuprobe nor nvidia-smi is here")
	case err != nil:
		return "", fail(statusFix[probe.Silent], "the driver gives no answer: %v", err)
	case r.Status != probe.OK:
		said := string(r.Status)
		if r.Message != "" {
			said += ": " + r.Message
		}
		return "", fail(statusFix[r.Status], "%s", said)
	}
	var list, sick []string
	for _, d := range r.Devices {
		if d.Lost || d.Error != "" {
			sick = append(sick, strings.TrimSuffix(fmt.Sprintf("%s cannot be used: %s", d.UUID, d.Error), ": "))
		}
		if !d.MIG {
			list = append(list, strings.Join(strings.Fields(fmt.Sprintf("%d %s %s %s", d.Index, d.Model, d.Profile, d.Total)), " "))
		}
	}
	switch {
	case len(list) == 0 && len(r.Devices) > 0:
		return "", fail("make instances (nvidia-smi mig -cgi ... -C), or switch MIG off (nvidia-smi -mig 0)", "every GPU is in MIG mode, and has no instance")
	case len(list) == 0:
		return "", fail(statusFix[probe.Broken], "the driver works and sees no GPU")
	}
	c.reading = r
	if len(sick) > 0 {
		return "", fail("reset it (nvidia-smi --gpu-reset -i INDEX) or reboot; read dmesg | grep -e NVRM -e Xid", "%s", strings.Join(sick, "; "))
	}
	return fmt.Sprintf("driver %s, CUDA up to %s, by %s: %s", r.Driver, r.CUDA, r.Source, strings.Join(list, ", ")), nil
}

// persistence: a driver that sleeps between programs takes seconds to wake, and a
// launch does not wait that long.
func (c *checks) persistence(ctx context.Context) (string, error) {
	const fix = "systemctl enable --now nvidia-persistenced; until then a launch can fail as the driver wakes too slowly"
	switch {
	case c.wsl:
		return "", skip("in WSL2 the driver is Windows's")
	case c.reading.Status != probe.OK:
		return "", skip("no GPU can be read")
	case c.exists(persistenceAt):
		return "nvidia-persistenced runs", nil
	}
	modes, err := c.Output(ctx, "nvidia-smi", "--query-gpu=persistence_mode", "--format=csv,noheader")
	if err != nil {
		return "", warn(fix, "nvidia-persistenced does not run")
	}
	for _, mode := range strings.Fields(modes) {
		if mode != "Enabled" {
			return "", warn(fix, "nvidia-persistenced does not run, and persistence mode is off")
		}
	}
	return "persistence mode is on", nil
}
