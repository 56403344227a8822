package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/runtime"
	"github.com/spillway/spillway/runtime/gpu"
	"github.com/spillway/spillway/runtime/serve"
)

// Objects is what a node needs of the object store.
type Objects interface {
	// Stage writes the object to f and returns its SHA-256 in hex. An object that
	// is gone is ErrNotFound, one that was replaced ErrConflict.
	Stage(ctx context.Context, ref functions.ObjectRef, f *os.File) (string, error)
	// Put stores size bytes of r, which is an io.Seeker and an io.ReaderAt too.
	Put(ctx context.Context, bucket, key string, r io.Reader, size int64, contentType string) (functions.ObjectRef, error)
}

// Link is what a node needs of the servers.
type Link interface {
	// Heartbeat returns nil when a leader has granted the lease.
	Heartbeat(ctx context.Context, hb functions.Heartbeat) error
	// Append returns when the events are in the log. The same message id again
	// adds nothing.
	Append(ctx context.Context, msgID string, events ...functions.Event) (uint64, error)
	// Progress and LogLines may lose what they are given, and do not wait.
	Progress(p functions.Progress)
	LogLines(lines []functions.LogLine)
}

// Config makes a Node.
type Config struct {
	ID       functions.NodeID
	DataDir  string // absolute
	Driver   runtime.Driver
	Objects  Objects
	Local    Local  // nil = the store is not on this machine
	Shares   Shares // nil = no shared folder is mounted here
	Web      Web    // nil = nothing is fetched from URLs
	Link     Link
	GPUs     *gpu.Pool           // nil = none
	Readings Readings            // nil = nothing reads the GPUs; they are as GPUs has them
	Capacity functions.Resources // what attempts may take together
	Labels   map[string]string
	Version  string

	// Drain makes Run wait for running attempts when its ctx ends. Otherwise
	// their containers run on, for the next agent to adopt.
	Drain     bool
	DiskFloor functions.Bytes // less free disk than this: no new tasks; 0 means 1 GiB
	Cache     functions.Bytes // most that is kept of inputs for later tasks; 0 = nothing

	// ImageBudget is the most disk for images that the node has pulled; over it, it
	// removes those that were not used lately. 0 = it never removes one.
	ImageBudget functions.Bytes

	// Entry is the entry program on this machine, and WarmMemory what containers
	// that wait for a task may take, which Capacity does not count; without either
	// none are kept. Without Entry no http or lambda function runs.
	Entry      string
	WarmMemory functions.Bytes
	Deployed   Deployed // nil = unknown

	Timings Timings
	Log     *slog.Logger     // nil discards
	Now     func() time.Time // nil means time.Now
}

// Timings are the node's limits and periods. Zero means the default beside each.
type Timings struct {
	Heartbeat time.Duration // 1 s
	Fence     time.Duration // 20 s without a grant: kill everything; the leader waits 25 s
	Probe     time.Duration // 5 s between questions to the engine
	Sweep     time.Duration // 1 min between searches for containers that nobody holds
	Pull      time.Duration // 10 min for an image
	// Launch is 30 s for create and start together: more than the 10 s limits
	// inside nvidia-container-cli, whose own message is worth waiting for.
	Launch   time.Duration
	Init     time.Duration // 2 min until the program of an http or lambda function is ready
	Store    time.Duration // 2 min for a store that does not answer, when outputs are at stake
	Engine   time.Duration // 2 min for an engine that does not answer, while a container runs
	Disk     time.Duration // 250 ms between looks at what a container has written
	Progress time.Duration // 500 ms between progress reports
	Reading  time.Duration // 1 s for a reading of the GPUs that is asked for
	Images   time.Duration // 5 min between looks at what images take
}

func (t Timings) withDefaults() Timings {
	return Timings{
		Heartbeat: cmp.Or(t.Heartbeat, time.Second),
		Fence:     cmp.Or(t.Fence, 20*time.Second),
		Probe:     cmp.Or(t.Probe, 5*time.Second),
		Sweep:     cmp.Or(t.Sweep, time.Minute),
		Pull:      cmp.Or(t.Pull, 10*time.Minute),
		Launch:    cmp.Or(t.Launch, 30*time.Second),
		Init:      cmp.Or(t.Init, 2*time.Minute),
		Store:     cmp.Or(t.Store, 2*time.Minute),
		Engine:    cmp.Or(t.Engine, 2*time.Minute),
		Disk:      cmp.Or(t.Disk, 250*time.Millisecond),
		Progress:  cmp.Or(t.Progress, 500*time.Millisecond),
		Reading:   cmp.Or(t.Reading, time.Second),
		Images:    cmp.Or(t.Images, 5*time.Minute),
	}
}

// Node is the agent. Its handler methods may be called from many goroutines.
type Node struct {
	cfg     Config
	time    Timings
	starts  chan *attempt   // from Admit to Run
	closed  chan struct{}   // closed when Run admits no more
	leaving <-chan struct{} // closed when Run leaves running attempts to the next agent
	stay    context.Context // whose end leaving is
	leave   func()
	nudge   chan struct{} // asks for a heartbeat now
	group   sync.WaitGroup
	cache   *cache
	images  *pulled
	warm    *warmth
	served  *serve.Keeper // containers of http and lambda functions
	blanks  *blanks
	look    *look // at the GPUs

	discarding atomic.Int32 // attempts whose remains are being removed

	mu       sync.Mutex // guards the fields below
	boot     bootRecord // zero until Run has read or made it
	opened   bool       // Run admits
	granted  time.Time  // when the last granted heartbeat was sent
	attempts map[key]*attempt
	ended    map[key]time.Time // in the log already; kept for a while against late repeats
	endings  []key             // of ended, oldest first
	used     functions.Resources
	engine   engineState
	shares   []string            // shared folders that are there
	warmed   map[runtime.ID]bool // containers that were started warm and are not removed yet

	ranIn      string // the image that an attempt ran in last
	canaryName string // of the container that tries a GPU; empty = none does
}

// errStopping ends the work of attempts that the next agent will adopt.
var errStopping = errors.New("the node's agent is stopping")

// New checks the configuration and starts nothing.
func New(cfg Config) (*Node, error) {
	if err := cfg.ID.Validate(); err != nil {
		return nil, err
	}
	if !filepath.IsAbs(cfg.DataDir) {
		return nil, functions.Invalid("bad_data_dir", "the node's data folder %q is not an absolute path", cfg.DataDir)
	}
	if cfg.Driver == nil || cfg.Objects == nil || cfg.Link == nil {
		return nil, functions.Invalid("bad_node", "a node needs a driver, an object store and a link")
	}
	if cfg.Readings != nil && cfg.GPUs == nil {
		return nil, functions.Invalid("bad_node", "a node that reads GPUs needs a pool of them")
	}
	if cfg.DiskFloor == 0 {
		cfg.DiskFloor = functions.GiB
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.Log = cfg.Log.With("component", "node", "node", cfg.ID)
	n := &Node{
		cfg: cfg, time: cfg.Timings.withDefaults(),
		starts: make(chan *attempt), closed: make(chan struct{}), nudge: make(chan struct{}, 1),
		attempts: make(map[key]*attempt), ended: make(map[key]time.Time), warmed: make(map[runtime.ID]bool),
		engine: engineState{reason: "the container engine was not asked yet"},
	}
	stay, end := context.WithCancel(context.Background())
	n.stay, n.leaving, n.leave = stay, stay.Done(), end
	n.cache = newCache(filepath.Join(cfg.DataDir, "cache"), cfg.Cache, cfg.Log, cfg.Now, &n.group, n.room)
	n.images, n.look = newPulled(cfg, n.busyImages), newLook()
	n.warm, n.blanks = n.newWarmth(), newBlanks(cfg.DataDir, containerUser())
	n.served = serve.NewKeeper(serve.Starter{
		Driver: cfg.Driver, Program: cfg.Entry, Dir: n.doors(), Launch: n.time.Launch, Init: n.time.Init,
	}, cfg.Log)
	return n, nil
}

// Run is the agent's life; call it once. It adopts what an earlier agent left,
// admits and runs attempts until ctx ends, and then stops in two steps: it
// admits nothing more, and then either waits for what runs (Config.Drain) or
// leaves it to the next agent. It returns when all its goroutines have ended.
func (n *Node) Run(ctx context.Context) error {
	unlock, err := lockFolder(n.cfg.DataDir)
	if err != nil {
		return err
	}
	defer unlock()
	held, err := n.load()
	if err != nil {
		return fmt.Errorf("load node state: %w", err)
	}

	if n.cfg.Readings != nil {
		n.look.begin(n.cfg.Now())
	}
	work, leave := context.WithCancelCause(context.WithoutCancel(ctx))
	var loops sync.WaitGroup
	for _, loop := range []func(context.Context){n.beat, n.fence, n.probe, n.sweep, n.watchShares, n.collectImages, n.stockBlanks, n.readGPUs, n.keepCanaries} {
		loops.Go(func() { loop(work) })
	}
	warm, cool := context.WithCancel(work)
	defer cool()
	cold := make(chan struct{}) // closed when nothing is kept warm any more
	go func() { defer close(cold); n.keepWarm(warm) }()
	dismiss := n.keepServing()
	for _, a := range held {
		n.group.Go(func() { n.run(work, a) })
	}
	n.open()
	for open := true; open; {
		select {
		case a := <-n.starts:
			n.group.Go(func() { n.run(work, a) })
		case <-ctx.Done():
			open = false
		}
	}
	n.close()
	if n.cfg.Drain {
		n.group.Wait()
	}
	cool()
	n.tidy(ctx, cold)
	n.leave()
	leave(errStopping)
	<-cold
	n.group.Wait()
	dismiss()
	loops.Wait()
	n.farewell(ctx)
	return nil
}

func (n *Node) open() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.opened = true
}

func (n *Node) close() {
	n.mu.Lock()
	n.opened = false
	n.mu.Unlock()
	close(n.closed)
	n.changed()
}

// changed asks for a heartbeat soon.
func (n *Node) changed() {
	select {
	case n.nudge <- struct{}{}:
	default: // one is asked for already
	}
}

// left reports whether running attempts belong to the next agent now.
func (n *Node) left() bool {
	select {
	case <-n.leaving:
		return true
	default:
		return false
	}
}
