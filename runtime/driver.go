package runtime

import (
	"context"
	"io"
	"slices"
	"time"

	"github.com/spillway/spillway/functions"
)

// ID names a container within one driver.
type ID string

// Driver runs containers on this machine. Its methods may be called from many
// goroutines. Errors are of package functions' classes: ErrNotFound for an image
// or container that is not there, ErrUnavailable when the engine does not answer.
// A failed Create or Start returns a *LaunchError with the engine's own words.
type Driver interface {
	// Name is the driver's name: docker, containerd, oci, fake.
	Name() string
	// Probe reports in one line what the engine is, or why it cannot be used.
	Probe(ctx context.Context) (string, error)
	// Pull makes the image present. An image already present is not pulled again,
	// and callers who want the same one at the same time share one pull. progress,
	// which may be nil, is called as bytes come.
	Pull(ctx context.Context, image string, progress func(PullProgress)) error
	// Image describes an image that is present.
	Image(ctx context.Context, image string) (Image, error)
	// Images describes every image that is present.
	Images(ctx context.Context) ([]Image, error)
	// RemoveImage takes a name from an image, and deletes the image with its last
	// name. One that a container uses stays, and is ErrConflict. Removing what is
	// gone succeeds.
	RemoveImage(ctx context.Context, image string) error
	// Create prepares a container and starts nothing. A name that exists already
	// is ErrConflict.
	Create(ctx context.Context, spec Spec) (ID, error)
	// Start runs it, feeds it stdin up to its end, and copies its output to the
	// streams until it exits, whatever becomes of ctx. A start that fails, or
	// that ctx ends, leaves a container that Remove removes; an engine may still
	// start it late, which is why callers fence by attempt and remove it.
	Start(ctx context.Context, id ID, io Streams) error
	// Attach replays the output of a container from its beginning and follows it
	// until it exits, like Start does.
	Attach(ctx context.Context, id ID, io Streams) error
	// Wait blocks until the container has exited and its output is copied.
	Wait(ctx context.Context, id ID) (Exit, error)
	// Stop asks (SIGTERM), then kills after grace. A grace of zero kills at once.
	// It returns when the container has exited. Stopping what is gone succeeds.
	Stop(ctx context.Context, id ID, grace time.Duration) error
	// Remove deletes every trace, killing it if it runs. Removing what is gone succeeds.
	Remove(ctx context.Context, id ID) error
	// List returns every container that carries all these labels, running or not.
	List(ctx context.Context, labels map[string]string) ([]Info, error)
	// Usage returns what the container uses now.
	Usage(ctx context.Context, id ID) (Usage, error)
}

// Spec is one container. Zero values mean the hardened default.
type Spec struct {
	Name       string // unique on the node
	Image      string
	Entrypoint []string // nil keeps the image's
	Command    []string // nil keeps the image's
	Env        []string // K=V; wins over the image's
	User       string   // uid:gid
	Mounts     []Mount
	Tmpfs      []Tmpfs
	MilliCPU   int64
	Memory     functions.Bytes // swap is not added
	Pids       int64
	FileSize   functions.Bytes // largest single file it may write; 0 = no limit
	LogSize    functions.Bytes // most the engine keeps of its output for Attach
	Network    functions.Network
	GPUs       []string // device ids as the engine takes them; empty = a CPU container
	// KnownGPUs says more of some of GPUs, by id, to drivers that look devices up
	// in CDI specifications.
	KnownGPUs map[string]KnownGPU
	Labels    map[string]string
}

// KnownGPU is what a reading of the machine's devices says of one, beside its id.
type KnownGPU struct {
	Names []string // other names of it in CDI specifications, by its index: 0, gpu0, 1:0, mig1:0
	Node  string   // its device file: /dev/nvidia0; empty = not known
}

// Image is what a driver knows of an image that is present.
type Image struct {
	Names      []string // by which Create takes it; may be empty
	ID         string   // of the content: the same on every node that has it
	Size       functions.Bytes
	Entrypoint []string
	Command    []string
	Env        []string // K=V
	WorkDir    string   // empty means /
	Labels     map[string]string
}

// Argv is what a container of the image runs, put together as Docker does it: the
// image's command is for its own entrypoint, which an empty one takes away.
func (i Image) Argv(entrypoint, command []string) []string {
	if len(entrypoint) == 0 && len(command) == 0 {
		command = i.Command
	}
	if entrypoint == nil {
		entrypoint = i.Entrypoint
	}
	return slices.Concat(entrypoint, command)
}

// PullProgress is how far a pull has come.
type PullProgress struct {
	Done, Total functions.Bytes // compressed; Total grows while the layers are found
	Layers      int             // that are complete
	Of          int
}

// Mount binds an absolute host path. Tmpfs is memory-backed room.
type (
	Mount struct {
		Source, Target string
		ReadOnly       bool
	}
	Tmpfs struct {
		Target string
		Size   functions.Bytes
	}
)

// Streams are the ends of a container's standard streams. A nil writer discards.
type Streams struct {
	Stdin  []byte
	Stdout io.Writer
	Stderr io.Writer
}

// Exit is how a container ended.
type Exit struct {
	Code       int
	OOMKilled  bool // by the kernel, for its memory limit
	EngineAway bool // the engine was away meanwhile; what ended it may have been the engine's return
	StartedAt  time.Time
	FinishedAt time.Time
}

// Info is one container in a list.
type Info struct {
	ID     ID
	Name   string
	Labels map[string]string
	State  ContainerState
}

// ContainerState is where a container stands.
type ContainerState string

const (
	Created ContainerState = "created" // never started, or its start failed
	Up      ContainerState = "up"
	Exited  ContainerState = "exited"
)

// Usage is what a container uses.
type Usage struct {
	Memory     functions.Bytes
	PeakMemory functions.Bytes // 0 = the engine does not say
}

// Labels that every container of ours carries.
const (
	LabelNode    = "spillway.node"
	LabelTask    = "spillway.task"
	LabelAttempt = "spillway.attempt"
	LabelEpoch   = "spillway.epoch"
	// LabelWarm is on containers that were started for no task yet, in place of the
	// three before; its value is FUNCTION@VERSION.
	LabelWarm = "spillway.warm"
	// LabelServe is on containers that serve one task after another, in place of
	// the three too; its value is FUNCTION@VERSION.
	LabelServe = "spillway.serve"
	// LabelCanary is on containers that only try a GPU, in place of the three too;
	// its value is the device's UUID.
	LabelCanary = "spillway.canary"
)
