package lambda

import (
	"regexp"
	"slices"
	"time"

	"github.com/spillway/spillway/functions"
)

// Bounds of what a function may ask for. They are wider than Lambda's where a
// machine of one's own has more.
const (
	defaultTimeout  = 3 // seconds, as Lambda's
	maxTimeout      = 24 * 60 * 60
	minMemory       = 128     // MB
	maxMemory       = 1 << 20 // MB
	minStorage      = 512     // MB
	maxDescription  = 256
	maxEnvironment  = 32 << 10 // bytes of names and values
	maxReserved     = 1 << 20
	maxDeviceMemory = 1024 // GB of one device
)

// settable is what both making and changing a function may say of it. What is
// nil stays as it is.
type settable struct {
	FunctionName      string // of a change, in the path
	Role              *string
	Description       *string
	Timeout           *int
	MemorySize        *int
	Environment       *environment
	ImageConfig       *imageConfig
	EphemeralStorage  *storage
	AcceleratorConfig *struct{ AcceleratorMemorySize int } // GB
}

const zipOnly = "is for Zip packages, and functions here are container images: leave it out"

// absentConfig are members of Lambda's that settable lacks.
var absentConfig = map[string]absent{
	"Runtime":                {why: zipOnly},
	"Handler":                {why: zipOnly + ", and name the handler in ImageConfig.Command"},
	"Layers":                 {why: zipOnly + ", and build what they hold into the image"},
	"SnapStart":              {why: zipOnly, unless: `{"ApplyOn":"None"}`},
	"CodeSigningConfigArn":   {why: zipOnly},
	"VpcConfig":              {why: "there are no VPCs here; the tag spillway:network=egress lets a function out"},
	"DeadLetterConfig":       {why: "is not served; put an OnFailure destination with PutFunctionEventInvokeConfig"},
	"KMSKeyArn":              {why: "there is no key management service here"},
	"TracingConfig":          {why: "tracing is not served here", unless: `{"Mode":"PassThrough"}`},
	"FileSystemConfigs":      {why: "there are no file systems here; name files of shared folders in the call"},
	"LoggingConfig":          {why: "logs are kept as the function writes them", unless: `{"LogFormat":"Text"}`},
	"CapacityProviderConfig": {why: "is not served; the tags spillway:gpu and spillway:gpu-memory say what a function needs"},
	"DurableConfig":          {why: "durable executions are not served here"},
	"TenancyConfig":          {why: "tenants are not kept apart here"},
	"PublishTo":              {why: "is not served; use Publish"},
}

var roleName = regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:role/[a-zA-Z0-9+=,.@_/-]{1,512}$`)

// fault checks what does not depend on the function.
func (c settable) fault() *apiError {
	var size, gpu *int
	if c.EphemeralStorage != nil {
		size = &c.EphemeralStorage.Size
	}
	if c.AcceleratorConfig != nil {
		gpu = &c.AcceleratorConfig.AcceleratorMemorySize
	}
	if c.Role != nil && *c.Role != "" && !roleName.MatchString(*c.Role) {
		return outside(*c.Role, "role", "Member must be an ARN such as arn:aws:iam::000000000000:role/NAME")
	}
	return firstOf(
		described(c.Description), within(c.Timeout, "timeout", 1, maxTimeout), within(c.MemorySize, "memorySize", minMemory, maxMemory),
		within(size, "ephemeralStorage.size", minStorage, maxMemory), within(gpu, "acceleratorConfig.acceleratorMemorySize", 1, maxDeviceMemory),
		c.Environment.fault(), c.ImageConfig.fault(),
	)
}

func described(text *string) *apiError {
	if text != nil && len(*text) > maxDescription {
		return outside(*text, "description", "Member must have length less than or equal to 256")
	}
	return nil
}

func (e *environment) fault() *apiError {
	if e == nil {
		return nil
	}
	size := 0
	for name, value := range e.Variables {
		size += len(name) + len(value)
	}
	if size > maxEnvironment {
		return problem(codeInvalidParameter, "The environment variables take %d bytes, and at most %d are kept", size, maxEnvironment)
	}
	return nil
}

func (c *imageConfig) fault() *apiError {
	if c != nil && c.WorkingDirectory != "" {
		return problem(codeInvalidParameter, "ImageConfig.WorkingDirectory: is the image's own here; set WORKDIR when you build it")
	}
	return nil
}

// apply writes c over a spec and its settings, and then what the function's tags
// say, so that a new environment does not lose it.
func (c settable) apply(s *functions.Spec, l *functions.LambdaSettings) *apiError {
	set(&l.Role, c.Role)
	set(&s.Description, c.Description)
	if c.Timeout != nil {
		s.Timeout = functions.Duration(time.Duration(*c.Timeout) * time.Second)
	}
	if c.MemorySize != nil {
		s.Limits.Memory = functions.Bytes(*c.MemorySize) * functions.MiB
	}
	if c.EphemeralStorage != nil {
		s.Limits.Disk = functions.Bytes(c.EphemeralStorage.Size) * functions.MiB
	}
	if c.ImageConfig != nil {
		s.Entrypoint, s.Command = slices.Clone(c.ImageConfig.EntryPoint), slices.Clone(c.ImageConfig.Command)
	}
	if c.Environment != nil {
		s.Env = c.Environment.Variables
	}
	if c.AcceleratorConfig != nil {
		tags, e := accelerated(l.Tags, c.AcceleratorConfig.AcceleratorMemorySize)
		if e != nil {
			return e
		}
		l.Tags = tags
	}
	return applyTags(s, l.Tags, nil)
}

func set(to *string, value *string) {
	if value != nil {
		*to = *value
	}
}

// codeOf is what the package of a function may be.
type codeOf struct {
	ImageUri      string
	Architectures []string
}

const notZip = "functions here are container images: use PackageType Image and an ImageUri, and build the Zip's contents into an image"

// absentCode are the members by which Lambda takes a Zip package.
var absentCode = map[string]absent{
	"ZipFile": {why: notZip}, "S3Bucket": {why: notZip}, "S3Key": {why: notZip}, "S3ObjectVersion": {why: notZip},
	"S3ObjectStorageMode": {why: notZip}, "SourceKMSKeyArn": {why: notZip},
}

func (c codeOf) fault() *apiError {
	if c.ImageUri == "" {
		return problem(codeInvalidParameter, "ImageUri: is missing; %s", notZip)
	}
	if len(c.Architectures) > 0 && !slices.Equal(c.Architectures, []string{architecture()}) {
		return problem(codeInvalidParameter, "Architectures: functions run on the machines that there are, which are taken for %s; leave it out", architecture())
	}
	return nil
}
