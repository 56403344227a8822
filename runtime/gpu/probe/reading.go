// Package probe reads the GPUs of this machine. NVIDIA's library is loaded by a
// child process alone, the program gpuprobe, which writes a Report a line: what
// kills or blocks it leaves the agent as it is. Where the program is missing,
// nvidia-smi is asked instead.
package probe

import (
	"time"

	"github.com/spillway/spillway/functions"
)

// Status is how far the driver could be asked.
type Status string

const (
	OK        Status = "ok"
	NoDriver  Status = "no_driver"  // NVIDIA's library is not installed: a CPU host
	NotLoaded Status = "not_loaded" // the library is there, and the kernel module is not
	Mismatch  Status = "mismatch"   // the driver was upgraded and the machine not rebooted
	Broken    Status = "broken"     // any other error; Message says which
	Silent    Status = "silent"     // the probe is dead, or has said nothing for too long
)

// Report is one line of the probe: a Reading, or an Event as it happens.
type Report struct {
	Reading *Reading `json:"reading,omitempty"`
	Event   *Event   `json:"event,omitempty"`
}

// Reading is what the machine's GPUs were at one moment.
type Reading struct {
	At      time.Time `json:"at"`
	Source  string    `json:"source"` // nvml, nvidia-smi, simulated
	Status  Status    `json:"status"`
	Message string    `json:"message,omitempty"` // why Status is not OK, or which GPUs could not even be named
	Driver  string    `json:"driver,omitempty"`
	CUDA    string    `json:"cuda,omitempty"` // the newest that the driver serves
	Devices []Device  `json:"devices,omitempty"`
}

// Device is one GPU, or one MIG instance: what is wrong with a GPU is said of its
// instances too. -1 stands for a number that the driver does not say.
type Device struct {
	UUID    string          `json:"uuid"`
	Index   int             `json:"index"` // of a MIG instance: of its GPU
	Minor   int             `json:"minor"` // of /dev/nvidiaN
	BusID   string          `json:"bus_id,omitempty"`
	Model   string          `json:"model,omitempty"`
	Parent  string          `json:"parent,omitempty"`  // of a MIG instance: UUID of its GPU
	Profile string          `json:"profile,omitempty"` // of a MIG instance
	MIG     bool            `json:"mig,omitempty"`     // it is divided: its instances are the devices, it is none
	Total   functions.Bytes `json:"total"`
	Used    functions.Bytes `json:"used"`
	Free    functions.Bytes `json:"free"`

	Utilisation int       `json:"utilisation"` // percent
	Processes   []Process `json:"processes,omitempty"`
	Can         []string  `json:"can,omitempty"` // nvenc, nvdec

	ECC      int64  `json:"ecc"`                // uncorrected errors since the driver was loaded
	Remap    bool   `json:"remap,omitempty"`    // the remapping of a bad row has failed
	Recovery int    `json:"recovery,omitempty"` // NVML_FI_DEV_GET_GPU_RECOVERY_ACTION: 0 = none is needed, or the driver does not say
	Lost     bool   `json:"lost,omitempty"`     // off the bus, or it needs a reset
	Error    string `json:"error,omitempty"`    // what could not be read, and why
}

// Process uses a device. PID is the host's.
type Process struct {
	PID    int             `json:"pid"`
	Memory functions.Bytes `json:"memory"` // -1 = the driver does not say
}

// Event is an Xid error that the driver reports; a double bit ECC error is Xid 48.
type Event struct {
	At   time.Time `json:"at"`
	UUID string    `json:"uuid"` // of the MIG instance where there is one to blame; empty = the driver did not say which
	Xid  uint64    `json:"xid"`
}
