package wire

import "strconv"

// RoleFacts prints what the kernel says of the process, a fact a line: by it a
// driver finds out whether its containers are isolated.
const RoleFacts = "facts"

// The files of a monitored container's folder, which is the monitor's argument
// and becomes its working directory. The driver writes FileLaunch and may write
// FileStdin; the rest is the monitor's.
const (
	FileLaunch  = "launch"      // Launch
	FileStdin   = "stdin"       // standard input; where there is none, it is empty
	FileLock    = "lock"        // locked while the monitor lives; holds its process ID
	FileExit    = "exit"        // Exit, once the container has ended
	FileRuntime = "runtime.log" // the OCI runtime's own log, as JSON lines
	FilePID     = "pid"         // the container's first process, as the runtime writes it
)

// The descriptors that a monitor is started with.
const (
	MonitorSocket = 3 // to the agent: Hello when the container runs, output, and Report at the end
	MonitorLock   = 4 // FileLock, locked
	// MonitorRuntime may be a copy of the OCI runtime in sealed memory, which is
	// executed in the place of the file then.
	MonitorRuntime = 5
)

// Launch says how a monitor brings its container to life.
type Launch struct {
	Argv    []string // the OCI runtime's; it leaves the container behind, and its process in FilePID
	Root    string   // where the root file system is mounted, in the monitor's namespace
	Scratch string   // where its memory-backed layer is mounted
	Layers  []string // folders of the image's unpacked layers, lowest first
	Room    int64    // bytes that may be written above them, by the runtime and its hooks
	Hide    []string // mounts that the runtime must not see
	Memory  string   // folder of the container's memory cgroup
	Log     string   // the file of the output; see package framelog
	LogSize int64    // bytes that it may take
}

// Append appends the message to b.
func (l Launch) Append(b []byte) ([]byte, error) {
	f := fields{text: b}
	f.list("argv", l.Argv)
	f.word("root", l.Root)
	f.word("scratch", l.Scratch)
	f.list("layer", l.Layers)
	f.number("room", l.Room)
	f.list("hide", l.Hide)
	f.word("memory", l.Memory)
	f.word("log", l.Log)
	f.number("log_size", l.LogSize)
	return f.text, f.err
}

// ParseLaunch reads a message.
func ParseLaunch(text []byte) (Launch, error) {
	var l Launch
	err := each(text, func(name, value string) (err error) {
		switch name {
		case "argv":
			l.Argv = append(l.Argv, value)
		case "root":
			l.Root = value
		case "scratch":
			l.Scratch = value
		case "layer":
			l.Layers = append(l.Layers, value)
		case "room":
			l.Room, err = strconv.ParseInt(value, 10, 64)
		case "hide":
			l.Hide = append(l.Hide, value)
		case "memory":
			l.Memory = value
		case "log":
			l.Log = value
		case "log_size":
			l.LogSize, err = strconv.ParseInt(value, 10, 64)
		}
		return err
	})
	return l, err
}

// Exit is how a monitored container ended, or why it never ran.
type Exit struct {
	Code       int
	OOMKilled  bool
	StartedAt  int64 // nanoseconds since 1970
	FinishedAt int64
	Error      string // the runtime's words; not empty = it never ran
}

// Append appends the message to b.
func (e Exit) Append(b []byte) ([]byte, error) {
	f := fields{text: b}
	f.number("code", int64(e.Code))
	if e.OOMKilled {
		f.number("oom", 1)
	}
	f.number("started", e.StartedAt)
	f.number("finished", e.FinishedAt)
	f.word("error", e.Error)
	return f.text, f.err
}

// ParseExit reads a message.
func ParseExit(text []byte) (Exit, error) {
	var e Exit
	err := each(text, func(name, value string) (err error) {
		switch name {
		case "code":
			e.Code, err = strconv.Atoi(value)
		case "oom":
			e.OOMKilled = value == "1"
		case "started":
			e.StartedAt, err = strconv.ParseInt(value, 10, 64)
		case "finished":
			e.FinishedAt, err = strconv.ParseInt(value, 10, 64)
		case "error":
			e.Error = value
		}
		return err
	})
	return e, err
}
