package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/gofiber/fiber/v3"
	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
	"github.com/versity/versitygw/s3api"

	"github.com/spillway/spillway/functions"
)

// Config says where the store keeps its objects and how it is reached.
type Config struct {
	Root         string // folder; made when missing
	Addr         string // host:port; the port is never 0
	AccessKey    string
	SecretKey    string
	Region       string // empty = us-east-1
	PublicOrigin string // web origin that may call from a browser; empty = none
	CertFile     string // with KeyFile: TLS
	KeyFile      string
	SideCar      bool // attributes in files even where xattrs work

	// Created is told of every new object, once it is durable and before the
	// client is. Its error is logged and not the client's: whoever must not
	// miss an object lists the bucket. The context ends after ten seconds.
	// nil = nobody is told.
	Created func(ctx context.Context, bucket, key, etag, versionID string) error

	Ready chan<- struct{} // closed once the store listens; may be nil
	Log   *slog.Logger    // nil = silent
}

// inUse guards the working directory, which the store changes and of which a
// process has one.
var inUse atomic.Bool

// Run serves until ctx ends; then it finishes what is in flight, for a few
// seconds at most, and returns nil. A second store in the process is
// ErrConflict.
func Run(ctx context.Context, c Config) error {
	if _, port, err := net.SplitHostPort(c.Addr); err != nil || port == "" || port == "0" {
		return functions.Invalid("bad_store", "%q is not an address to listen on", c.Addr).WithHint("write host:port").WithCause(err)
	}
	if c.AccessKey == "" || c.SecretKey == "" {
		return functions.Invalid("bad_store", "the embedded store needs an access key and a secret key")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if !inUse.CompareAndSwap(false, true) {
		return functions.Conflict("store_running", "an embedded store runs in this process already")
	}
	defer inUse.Store(false)

	disk, err := open(&c)
	if err != nil {
		return fmt.Errorf("open the embedded store in %s: %w", c.Root, err)
	}
	// The store ends after the janitor, which works on the same files.
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var janitor sync.WaitGroup
	janitor.Go(func() { sweep(ctx, disk, c.Log) })
	served, end := context.WithCancel(context.Background())
	janitor.Go(func() {
		<-ctx.Done()
		hangUp(served, c.Addr)
	})
	err = embedgw.RunVersityGW(ctx, disk, gateway(c))
	stop()
	end()
	janitor.Wait()
	if err != nil {
		return fmt.Errorf("serve the embedded store on %s: %w", c.Addr, err)
	}
	return nil
}

// open makes the folders and the backend, and changes the working directory.
func open(c *Config) (*outbox, error) {
	root, err := filepath.Abs(c.Root)
	if err != nil {
		return nil, err
	}
	for _, file := range []*string{&c.CertFile, &c.KeyFile} {
		if *file == "" {
			continue
		}
		if *file, err = filepath.Abs(*file); err != nil {
			return nil, err
		}
	}
	// Neither name begins with another: the library compares them as strings.
	data, versions, sidecar := filepath.Join(root, "data"), filepath.Join(root, "versions"), filepath.Join(root, "sidecar")
	for _, dir := range []string{data, versions} {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return nil, err
		}
	}
	box := &outbox{data: data, created: c.Created, log: c.Log}
	var attrs meta.MetadataStorer = meta.XattrMeta{}
	switch _, err := os.Stat(sidecar); {
	case err == nil: // this store began with side-car files, and its attributes are there
		c.SideCar = true
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	case !c.SideCar:
		c.SideCar = meta.XattrMeta{}.Test(data) != nil
	}
	if c.SideCar {
		if err := os.MkdirAll(sidecar, 0o750); err != nil {
			return nil, err
		}
		if attrs, err = meta.NewSideCar(sidecar); err != nil {
			return nil, err
		}
		box.sidecar = sidecar
	}
	err = captureStdout(c.Log, func() error {
		box.Backend, err = posix.New(data, attrs, posix.PosixOpts{
			VersioningDir:       versions,
			CopyObjectThreshold: 5 << 30, // the zero value is no default: every copy would fail
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return box, box.tidy(attrs, versions)
}

func gateway(c Config) *embedgw.Config {
	return &embedgw.Config{
		RootUserAccess: c.AccessKey, RootUserSecret: c.SecretKey, Region: c.Region,
		// What the library would choose by itself, and announce on standard output.
		IAMService: auth.NewIAMServiceSingle(auth.Account{Access: c.AccessKey, Secret: c.SecretKey, Role: auth.RoleAdmin}),
		Ports:      []string{c.Addr}, CertFile: c.CertFile, KeyFile: c.KeyFile,
		MaxConnections: 1024, MaxRequests: 512, MultipartMaxParts: 10000,
		KeepAlive: true, Quiet: true, HealthPath: "/healthz", CORSAllowOrigin: c.PublicOrigin,
		S3Options: []s3api.Option{
			s3api.WithOnListen(func() {
				if c.Ready != nil {
					close(c.Ready)
				}
			}),
			s3api.WithMiddleware("/", closeAfterEmpty),
		},
	}
}

// closeAfterEmpty ends the connection of an upload of zero bytes in signed
// chunks: the library leaves their framing unread, and the next request on the
// connection would begin with it.
func closeAfterEmpty(c fiber.Ctx) error {
	if c.Get("X-Amz-Decoded-Content-Length") == "0" {
		defer c.Response().Header.SetConnectionClose()
	}
	return c.Next()
}
