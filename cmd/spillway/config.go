package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	goruntime "runtime"
	"time"

	"github.com/caarlos0/env/v11"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/spillway/spillway/functions"
)

// Config is every setting of every role. Order of precedence: the defaults, the
// file named by --config, the environment (SPILLWAY_...), the flags.
type Config struct {
	Data          string        `yaml:"data" env:"DATA"`             // folder of everything durable; made absolute
	Listen        string        `yaml:"listen" env:"LISTEN"`         // gateway address
	PublicURL     string        `yaml:"public_url" env:"PUBLIC_URL"` // what clients call the gateway; default from Listen
	NoAuth        bool          `yaml:"no_auth" env:"NO_AUTH"`       // accept calls without a key; loopback only
	LogLevel      string        `yaml:"log_level" env:"LOG_LEVEL"`   // debug, info, warn, error
	ReadyFile     string        `yaml:"ready_file" env:"READY_FILE"` // written with the URLs, as JSON, when all is up
	Store         StoreConfig   `yaml:"store" envPrefix:"STORE_"`
	Engine        EngineConfig  `yaml:"engine" envPrefix:"ENGINE_"`
	Node          NodeConfig    `yaml:"node" envPrefix:"NODE_"`
	WebhookSecret string        `yaml:"-" env:"WEBHOOK_SECRET"`    // signs webhooks: whsec_ and base64; default made at the first start
	AWSAccessKey  string        `yaml:"-" env:"AWS_ACCESS_KEY_ID"` // of AWS's clients; default made at the first start
	AWSSecret     string        `yaml:"-" env:"AWS_SECRET_ACCESS_KEY"`
	Reconcile     time.Duration `yaml:"reconcile" env:"RECONCILE"`                 // how often watched buckets are listed
	LambdaWait    time.Duration `yaml:"lambda_queue_wait" env:"LAMBDA_QUEUE_WAIT"` // the most that a synchronous call of AWS Lambda's API waits to be started
	Ingest        IngestConfig  `yaml:"ingest" envPrefix:"INGEST_"`
	Inputs        InputsConfig  `yaml:"inputs" envPrefix:"INPUTS_"`

	Retention RetentionConfig `yaml:"retention" envPrefix:"RETENTION_"`
}

// RetentionConfig is how long the files that Spillway stored are kept after the
// end of their task. 0 means for ever.
type RetentionConfig struct {
	Uploads time.Duration `yaml:"uploads" env:"UPLOADS"` // files sent in, and large events
	Results time.Duration `yaml:"results" env:"RESULTS"` // large results and output files
	Logs    time.Duration `yaml:"logs" env:"LOGS"`
	Grace   time.Duration `yaml:"grace" env:"GRACE"` // from giving files up to deleting them; over the 15 minutes of a download URL
	Every   time.Duration `yaml:"every" env:"EVERY"` // between looks for old files
}

// StoreConfig is the object store: embedded when Endpoint is empty.
type StoreConfig struct {
	Listen       string   `yaml:"listen" env:"LISTEN"`     // address of the embedded store
	Endpoint     string   `yaml:"endpoint" env:"ENDPOINT"` // URL of an S3 store
	Public       string   `yaml:"public" env:"PUBLIC"`     // URL that clients use for presigned requests; default Endpoint
	Region       string   `yaml:"region" env:"REGION"`
	AccessKey    string   `yaml:"access_key" env:"ACCESS_KEY"`
	SecretKey    string   `yaml:"-" env:"SECRET_KEY"` // never from the file or a flag
	WebhookToken string   `yaml:"-" env:"WEBHOOK_TOKEN"`
	WebhookARNs  []string `yaml:"webhook_arns" env:"WEBHOOK_ARN"` // notification targets to set on watched buckets
}

// IngestConfig is how stored objects become tasks.
type IngestConfig struct {
	SQSURLs     []string      `yaml:"sqs_urls" env:"SQS_URL"`          // queues that AWS fills with object events
	SQSRegion   string        `yaml:"sqs_region" env:"SQS_REGION"`     // empty = as AWS's own settings or the URL say
	SQSEndpoint string        `yaml:"sqs_endpoint" env:"SQS_ENDPOINT"` // where the service answers, if it is not AWS
	Overlap     time.Duration `yaml:"overlap" env:"OVERLAP"`           // of listings: what clocks may differ by
	MaxDepth    int           `yaml:"max_depth" env:"MAX_DEPTH"`       // of functions that feed or follow each other
}

// EngineConfig is the log: embedded when URL is empty.
type EngineConfig struct {
	Listen string `yaml:"listen" env:"LISTEN"` // lets nodes on other machines connect; empty = this process only
	URL    string `yaml:"url" env:"URL"`
	Token  string `yaml:"-" env:"TOKEN"`
}

// NodeConfig is this machine as a worker.
type NodeConfig struct {
	ID          string  `yaml:"id" env:"ID"`
	Runtime     string  `yaml:"runtime" env:"RUNTIME"` // auto, or the name of a runtime
	DockerHost  string  `yaml:"docker_host" env:"DOCKER_HOST"`
	Containerd  string  `yaml:"containerd" env:"CONTAINERD"`                     // socket; empty = the usual one
	Namespace   string  `yaml:"containerd_namespace" env:"CONTAINERD_NAMESPACE"` // empty = spillway
	OCIRuntime  string  `yaml:"oci_runtime" env:"OCI_RUNTIME"`                   // crun or runc, or a path; empty = whichever works
	OCIDir      string  `yaml:"oci_dir" env:"OCI_DIR"`                           // what the oci runtime keeps of containers that are there; empty = in the data folder
	HostNetwork bool    `yaml:"host_network" env:"HOST_NETWORK"`                 // containers with network egress use the host's, loopback included
	AssumeGPU   int     `yaml:"assume_gpu" env:"ASSUME_GPU"`                     // claim this many GPUs without a probe
	GPUProbe    string  `yaml:"gpu_probe" env:"GPU_PROBE"`                       // what reads the GPUs: auto, off, or the path of a gpuprobe
	MaxPerGPU   int     `yaml:"max_per_gpu" env:"MAX_PER_GPU"`                   // tasks that may share a GPU
	CPUs        float64 `yaml:"cpus" env:"CPUS"`                                 // offered to tasks; 0 = all
	Memory      string  `yaml:"memory" env:"MEMORY"`                             // offered to tasks; empty = 80 %
	MaxTasks    int     `yaml:"max_tasks" env:"MAX_TASKS"`                       // containers at once
	DiskFloor   string  `yaml:"disk_floor" env:"DISK_FLOOR"`                     // with less free disk the node takes no task; empty = 1GiB
	Cache       string  `yaml:"cache" env:"CACHE"`                               // most disk for inputs kept for later tasks; 0 = none; empty = 10GiB, at most a tenth of the disk
	WarmMemory  string  `yaml:"warm_memory" env:"WARM_MEMORY"`                   // of Memory, for containers that wait for tasks; 0 = none wait; empty = 10 %

	RegistryAuth string `yaml:"registry_auth" env:"REGISTRY_AUTH"` // file of credentials for image registries, as docker login writes it
	ImageBudget  string `yaml:"image_budget" env:"IMAGE_BUDGET"`   // most disk for images that the node has pulled; 0 = it removes none; empty = 50GiB, at most a fifth of the disk

	SimulateGPU string   `yaml:"simulate_gpu" env:"SIMULATE_GPU"` // devices that are not there, for rehearsals
	Fail        []string `yaml:"fail" env:"FAIL"`                 // faults that they have
	FailFile    string   `yaml:"fail_file" env:"FAIL_FILE"`       // more of them, read again when it changes
	FailSeed    uint64   `yaml:"fail_seed" env:"FAIL_SEED"`       // of the dice that faults with a rate throw
	CDIDirs     []string `yaml:"cdi_dirs" env:"CDI_DIRS"`         // where CDI specifications of GPUs are; empty = the standard folders
}

// Default returns the documented defaults.
func Default() Config {
	host, err := os.Hostname()
	if err != nil || functions.NodeID(host).Validate() != nil {
		host = "node"
	}
	return Config{
		Data:       "spillway-data",
		Listen:     "127.0.0.1:8080",
		LogLevel:   "info",
		Reconcile:  time.Minute,
		LambdaWait: 30 * time.Second,
		Ingest:     IngestConfig{Overlap: 10 * time.Minute, MaxDepth: 8},
		Store:      StoreConfig{Listen: "127.0.0.1:8081", Region: "us-east-1"},
		Retention:  RetentionConfig{Uploads: 7 * 24 * time.Hour, Results: 30 * 24 * time.Hour, Logs: 30 * 24 * time.Hour, Grace: 20 * time.Minute, Every: 10 * time.Minute},
		Node:       NodeConfig{ID: host, Runtime: runtimeAuto, GPUProbe: probeAuto, MaxPerGPU: 4, MaxTasks: 8 * goruntime.NumCPU()},
	}
}

// bind makes a flag of each setting that is usual on a command line.
func (c *Config) bind(f *pflag.FlagSet) {
	f.String("config", "", "YAML file of settings")
	f.StringVar(&c.Data, "data", c.Data, "folder of everything durable")
	f.StringVar(&c.Listen, "listen", c.Listen, "gateway address; port 0 picks a free one")
	f.StringVar(&c.PublicURL, "public-url", c.PublicURL, "what clients call the gateway")
	f.BoolVar(&c.NoAuth, "no-auth", c.NoAuth, "accept calls without a key (loopback only)")
	f.StringVar(&c.LogLevel, "log-level", c.LogLevel, "debug, info, warn or error")
	f.StringVar(&c.ReadyFile, "ready-file", c.ReadyFile, "write the URLs here, as JSON, when all is up")
	f.DurationVar(&c.Reconcile, "reconcile", c.Reconcile, "how often watched buckets are listed for missed events")
	f.DurationVar(&c.LambdaWait, "lambda-queue-wait", c.LambdaWait, "how long a synchronous call of AWS Lambda's API may wait to be started, before it is told to come again")
	f.DurationVar(&c.Retention.Uploads, "keep-uploads", c.Retention.Uploads, "how long files sent in are kept after their task's end; 0 = for ever")
	f.DurationVar(&c.Retention.Results, "keep-results", c.Retention.Results, "how long large results and output files are kept after their task's end; 0 = for ever")
	f.DurationVar(&c.Retention.Logs, "keep-logs", c.Retention.Logs, "how long logs are kept after their task's end; 0 = for ever")
	f.StringVar(&c.Store.Listen, "store-listen", c.Store.Listen, "address of the embedded object store")
	f.StringVar(&c.Store.Endpoint, "store-endpoint", c.Store.Endpoint, "URL of an S3 store to use instead of the embedded one")
	f.StringVar(&c.Store.Public, "store-public", c.Store.Public, "URL of the store for clients, when it differs")
	f.StringVar(&c.Store.Region, "store-region", c.Store.Region, "region of the store")
	f.StringVar(&c.Store.AccessKey, "store-access-key", c.Store.AccessKey, "access key of the store; its secret comes from SPILLWAY_STORE_SECRET_KEY")
	f.StringSliceVar(&c.Store.WebhookARNs, "store-webhook-arn", c.Store.WebhookARNs, "notification target to set on watched buckets, such as arn:minio:sqs::FAST:webhook; may be repeated")
	f.StringSliceVar(&c.Ingest.SQSURLs, "ingest-sqs-url", c.Ingest.SQSURLs, "queue that AWS fills with events of stored objects; may be repeated")
	f.StringVar(&c.Ingest.SQSRegion, "ingest-sqs-region", c.Ingest.SQSRegion, "region of the queues; default as AWS's own settings or the URL say")
	f.StringVar(&c.Ingest.SQSEndpoint, "ingest-sqs-endpoint", c.Ingest.SQSEndpoint, "where the queue service answers, if it is not AWS")
	f.IntVar(&c.Ingest.MaxDepth, "ingest-max-depth", c.Ingest.MaxDepth, "most tasks in line, each started by the one before or an output of it")
	f.StringVar(&c.Engine.Listen, "engine-listen", c.Engine.Listen, "address where nodes on other machines connect")
	f.StringVar(&c.Engine.URL, "engine-url", c.Engine.URL, "URL of the engine, such as nats://server:4222")
	f.Var((*folderFlag)(&c.Inputs.Shares), "share", "a shared folder that is mounted here, for inputs of tasks; may be repeated, and adds to the file's")
	f.Var((*listFlag)(&c.Inputs.URLAllow), "url-allow", "CIDR prefix or host that inputs may be fetched from although it is not public; may be repeated, and adds to the file's")
	f.StringVar(&c.Inputs.URLMax, "url-max", c.Inputs.URLMax, "largest input from a URL; empty = 10GiB")
	f.StringVar(&c.Node.ID, "node-id", c.Node.ID, "name of this node")
	f.StringVar(&c.Node.Runtime, "runtime", c.Node.Runtime, "what runs containers: auto takes the first of docker, containerd and oci that works; or one of them, or simulated (rehearsal and benchmarks)")
	f.StringVar(&c.Node.DockerHost, "docker-host", c.Node.DockerHost, "Docker Engine address; default DOCKER_HOST or the local socket")
	f.StringVar(&c.Node.Containerd, "containerd", c.Node.Containerd, "containerd's socket; empty = /run/containerd/containerd.sock")
	f.StringVar(&c.Node.Namespace, "containerd-namespace", c.Node.Namespace, "containerd's namespace for containers and images; empty = spillway")
	f.StringSliceVar(&c.Node.CDIDirs, "cdi-dir", c.Node.CDIDirs, "folder of CDI specifications, by which containers of containerd and oci get GPUs; may be repeated; default /etc/cdi and /var/run/cdi")
	f.StringVar(&c.Node.OCIRuntime, "oci-runtime", c.Node.OCIRuntime, "program that the oci runtime executes; empty = crun or runc, whichever works")
	f.StringVar(&c.Node.OCIDir, "oci-dir", c.Node.OCIDir, "folder of the oci runtime's containers, but for their output; in memory, below /run, launches are quickest; empty = in the data folder")
	f.BoolVar(&c.Node.HostNetwork, "host-network", c.Node.HostNetwork, "give containers with network egress the host's network, loopback included; containerd and oci have no other")
	f.IntVar(&c.Node.AssumeGPU, "assume-gpu", c.Node.AssumeGPU, "claim this many GPUs, for a host whose devices cannot be listed: nothing reads them, and launches really ask for them")
	f.StringVar(&c.Node.GPUProbe, "gpu-probe", c.Node.GPUProbe, "what reads the GPUs: auto takes gpuprobe beside spillway or in PATH, else nvidia-smi; off; or the path of a gpuprobe")
	f.IntVar(&c.Node.MaxPerGPU, "max-per-gpu", c.Node.MaxPerGPU, "tasks of functions that declare gpu.memory that may share a GPU")
	f.Float64Var(&c.Node.CPUs, "cpus", c.Node.CPUs, "cores offered to tasks; 0 = all")
	f.StringVar(&c.Node.Memory, "memory", c.Node.Memory, "memory offered to tasks, such as 16GiB; empty = 80 %")
	f.IntVar(&c.Node.MaxTasks, "max-tasks", c.Node.MaxTasks, "containers at once")
	f.StringVar(&c.Node.DiskFloor, "disk-floor", c.Node.DiskFloor, "with less free disk than this the node takes no task; empty = 1GiB")
	f.StringVar(&c.Node.Cache, "cache", c.Node.Cache, "most disk for inputs kept for later tasks; 0 = none; empty = 10GiB, at most a tenth of the disk")
	f.StringVar(&c.Node.RegistryAuth, "registry-auth", c.Node.RegistryAuth, "file of credentials for image registries, as docker login writes it; Docker's own are used as well")
	f.StringVar(&c.Node.ImageBudget, "image-budget", c.Node.ImageBudget, "most disk for images that the node has pulled; 0 = it removes none; empty = 50GiB, at most a fifth of the disk")
	f.StringVar(&c.Node.WarmMemory, "warm-memory", c.Node.WarmMemory, "memory for containers that wait for tasks (functions with warm), taken from what tasks are offered; 0 = none wait; empty = 10 %")
	f.StringVar(&c.Node.SimulateGPU, "simulate-gpu", c.Node.SimulateGPU, "rehearse with GPUs that are not there, such as 2x80GiB or 1x24GiB:L4,2x80GiB:H100; what asks for them runs in plain containers")
	f.StringSliceVar(&c.Node.Fail, "fail", c.Node.Fail, "fault of the simulated GPUs, KIND[:RATE][@INDEX], such as oom:0.25, device:first=2@0, slow=2s or foreign=40GiB@1; may be repeated")
	f.StringVar(&c.Node.FailFile, "fail-file", c.Node.FailFile, "file of more such faults, one a line; it may come, change and go while the node runs")
	f.Uint64Var(&c.Node.FailSeed, "fail-seed", c.Node.FailSeed, "number from which faults with a rate draw their chances")
}

// load fills c by precedence. set holds the flags that were given.
func (c *Config) load(f *pflag.FlagSet, environ map[string]string) error {
	given := map[string]string{}
	lists := map[string][]string{}
	f.Visit(func(fl *pflag.Flag) {
		if l, ok := fl.Value.(pflag.SliceValue); ok {
			lists[fl.Name] = l.GetSlice()
			return
		}
		given[fl.Name] = fl.Value.String()
	})
	*c = Default()
	if path := given["config"]; path != "" {
		if err := c.readFile(path); err != nil {
			return err
		}
	}
	if err := env.ParseWithOptions(c, env.Options{Prefix: "SPILLWAY_", Environment: environ}); err != nil {
		return functions.Invalid("bad_config", "read the environment").WithCause(err)
	}
	for name, value := range given {
		if err := f.Set(name, value); err != nil {
			return functions.Invalid("bad_flag", "--%s: %v", name, err)
		}
	}
	for name, values := range lists {
		if err := f.Lookup(name).Value.(pflag.SliceValue).Replace(values); err != nil {
			return functions.Invalid("bad_flag", "--%s: %v", name, err)
		}
	}
	return c.Validate()
}

func (c *Config) readFile(path string) error {
	file, err := os.Open(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return functions.Invalid("no_config", "%s does not exist", path)
		}
		return fmt.Errorf("read configuration: %w", err)
	}
	defer file.Close()
	dec := yaml.NewDecoder(file)
	dec.KnownFields(true)
	if err := dec.Decode(c); err != nil {
		return functions.Invalid("bad_config", "%s: %v", path, err)
	}
	return nil
}

// Validate refuses contradictions and makes paths absolute: the embedded store
// changes the process's working folder.
func (c *Config) Validate() error {
	bad := func(field, format string, args ...any) error {
		return functions.Invalid("bad_config", "%s: %s", field, fmt.Sprintf(format, args...)).WithField(field)
	}
	if c.Node.GPUProbe == "" {
		c.Node.GPUProbe = probeAuto
	}
	paths := []*string{&c.Data, &c.ReadyFile, &c.Node.RegistryAuth}
	if c.Node.GPUProbe != probeAuto && c.Node.GPUProbe != probeOff {
		paths = append(paths, &c.Node.GPUProbe)
	}
	for _, p := range paths {
		if *p == "" {
			continue
		}
		abs, err := filepath.Abs(*p)
		if err != nil {
			return bad("data", "%v", err)
		}
		*p = abs
	}
	for i, dir := range c.Node.CDIDirs {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return bad("cdi-dir", "%v", err)
		}
		c.Node.CDIDirs[i] = abs
	}
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return bad("listen", "%q is not host:port", c.Listen)
	}
	if ip := net.ParseIP(host); c.NoAuth && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return bad("no-auth", "%s is reachable from other machines; drop --no-auth, or listen on 127.0.0.1", c.Listen)
	}
	if err := functions.NodeID(c.Node.ID).Validate(); err != nil {
		return bad("node-id", "%v", err)
	}
	if err := validRuntime(c.Node.Runtime); err != nil {
		return bad("runtime", "%v", err)
	}
	if c.Node.AssumeGPU < 0 || c.Node.AssumeGPU > 64 {
		return bad("assume-gpu", "%d is out of range 0 to 64", c.Node.AssumeGPU)
	}
	if c.Node.AssumeGPU > 0 && c.Node.GPUProbe != probeAuto && c.Node.GPUProbe != probeOff {
		return bad("gpu-probe", "reads the GPUs, and --assume-gpu is for a host whose GPUs cannot be read: drop one of them")
	}
	if c.Node.MaxPerGPU < 1 || c.Node.MaxPerGPU > 64 {
		return bad("max-per-gpu", "%d is out of range 1 to 64", c.Node.MaxPerGPU)
	}
	if c.Node.MaxTasks < 1 {
		return bad("max-tasks", "is under 1")
	}
	if c.Ingest.MaxDepth < 1 || c.Ingest.MaxDepth > 1000 {
		return bad("ingest-max-depth", "%d is out of range 1 to 1000", c.Ingest.MaxDepth)
	}
	if c.Ingest.Overlap < time.Minute || c.Ingest.Overlap > 24*time.Hour {
		return bad("ingest.overlap", "%s is out of range 1m to 24h", c.Ingest.Overlap)
	}
	if c.LambdaWait < time.Second || c.LambdaWait > time.Hour {
		return bad("lambda-queue-wait", "%s is out of range 1s to 1h", c.LambdaWait)
	}
	for field, d := range map[string]time.Duration{"keep-uploads": c.Retention.Uploads, "keep-results": c.Retention.Results, "keep-logs": c.Retention.Logs} {
		if d < 0 {
			return bad(field, "%s is negative; 0 keeps files for ever", d)
		}
	}
	if c.Retention.Grace <= 0 || c.Retention.Every <= 0 {
		return bad("retention", "grace and every must be over 0")
	}
	for field, size := range map[string]string{"memory": c.Node.Memory, "disk-floor": c.Node.DiskFloor, "cache": c.Node.Cache, "image-budget": c.Node.ImageBudget, "warm-memory": c.Node.WarmMemory, "url-max": c.Inputs.URLMax} {
		if _, err := parseSize(size); err != nil {
			return bad(field, "%v", err)
		}
	}
	if _, err := openShares(*c); err != nil {
		return bad("share", "%v", err)
	}
	if _, err := openWeb(*c); err != nil {
		return bad("url-allow", "%v", err)
	}
	if _, err := registryKeys(c.Node); err != nil {
		return err
	}
	if c.Node.FailFile != "" {
		if c.Node.FailFile, err = filepath.Abs(c.Node.FailFile); err != nil {
			return bad("fail-file", "%v", err)
		}
	}
	if _, err := simulatedGPUs(c.Node, slog.New(slog.DiscardHandler)); err != nil {
		return err
	}
	if c.Store.Endpoint != "" && (c.Store.AccessKey == "" || c.Store.SecretKey == "") {
		return bad("store-access-key", "an external store needs SPILLWAY_STORE_ACCESS_KEY and SPILLWAY_STORE_SECRET_KEY")
	}
	if err := validAWSKey(c.AWSAccessKey, c.AWSSecret); err != nil {
		return bad("aws-access-key-id", "%v", err)
	}
	return nil
}

// parseSize reads a size; empty is 0, which means a default.
func parseSize(s string) (functions.Bytes, error) {
	if s == "" {
		return 0, nil
	}
	return functions.ParseBytes(s)
}
