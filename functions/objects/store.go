package objects

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/spillway/spillway/functions"
)

// Buckets that Spillway uses by itself.
const (
	Uploads = "uploads" // in/<task id>/<file name>, and ev/<task id> for large events
	Results = "results" // <task id>/<attempt>/<output name>
)

const (
	// smallPut is held in memory so that it is one request, which can be sent
	// again after a broken connection.
	smallPut = 1 << 20
	// tries is how often a request is sent. The library's default of ten makes
	// a dead endpoint slow to notice.
	tries = 3
)

// Config says where the store is.
type Config struct {
	Endpoint       string         // http://host:port or https://host:port, for data
	PublicEndpoint string         // as clients reach it, for signed requests; empty = Endpoint
	AccessKey      string         // required
	SecretKey      string         // required
	Region         string         // empty = us-east-1
	RootCAs        *x509.CertPool // nil = the system's
	Embedded       bool           // the store is package embedded
}

// Store is a client of one store. It is safe for use from many goroutines.
type Store struct {
	core   *minio.Core   // data, at Endpoint
	signer *minio.Client // signs for PublicEndpoint and never connects to it
	region string
}

// New returns a client. It does not connect.
func New(c Config) (*Store, error) {
	if c.AccessKey == "" || c.SecretKey == "" {
		return nil, functions.Invalid("bad_store", "the object store needs an access key and a secret key")
	}
	if c.Region == "" {
		c.Region = "us-east-1"
	}
	if c.PublicEndpoint == "" {
		c.PublicEndpoint = c.Endpoint
	}
	internal, err := parseEndpoint(c.Endpoint)
	if err != nil {
		return nil, err
	}
	public, err := parseEndpoint(c.PublicEndpoint)
	if err != nil {
		return nil, err
	}
	opts := minio.Options{
		Creds:        credentials.NewStaticV4(c.AccessKey, c.SecretKey, ""),
		Secure:       internal.Scheme == "https",
		Transport:    transport(c.RootCAs),
		Region:       c.Region, // without it every signature would ask the network first
		BucketLookup: minio.BucketLookupPath,
		MaxRetries:   tries,
		// The embedded store misreads the signature that follows a trailing
		// checksum over plain HTTP, and refuses the upload. Signed chunks
		// protect the body there.
		TrailingHeaders: internal.Scheme == "https" || !c.Embedded,
	}
	core, err := minio.NewCore(internal.Host, &opts)
	if err != nil {
		return nil, functions.Invalid("bad_store", "cannot use the object store %s", c.Endpoint).WithCause(err)
	}
	opts.Secure = public.Scheme == "https"
	signer, err := minio.New(public.Host, &opts)
	if err != nil {
		return nil, functions.Invalid("bad_store", "cannot use the public object store %s", c.PublicEndpoint).WithCause(err)
	}
	return &Store{core: core, signer: signer, region: c.Region}, nil
}

func parseEndpoint(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") ||
		(u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.User != nil {
		return nil, functions.Invalid("bad_store", "%q is not an object store's address", s).
			WithHint("write http://host:port or https://host:port, without a path")
	}
	return u, nil
}

func transport(roots *x509.CertPool) http.RoundTripper {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		MaxIdleConns:          256,
		MaxIdleConnsPerHost:   64,
		IdleConnTimeout:       time.Minute,
		ResponseHeaderTimeout: 2 * time.Minute, // completing a large multipart upload takes its time
		TLSHandshakeTimeout:   10 * time.Second,
		TLSClientConfig:       &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		DisableCompression:    true, // bytes must arrive as they are stored
	}
}

// Ready reports whether the store answers and knows our key. A key that may not
// list buckets is known.
func (s *Store) Ready(ctx context.Context) error {
	_, err := s.core.ListBuckets(ctx)
	if code(err) == minio.AccessDenied {
		return nil
	}
	return translate(ctx, err, "list buckets", "", "")
}

// EnsureBucket makes the bucket unless it is there.
func (s *Store) EnsureBucket(ctx context.Context, bucket string) error {
	if err := functions.BucketName(bucket); err != nil {
		return err
	}
	there, err := s.core.BucketExists(ctx, bucket)
	if err != nil || there {
		return translate(ctx, err, "look for bucket", bucket, "")
	}
	err = s.core.MakeBucket(ctx, bucket, minio.MakeBucketOptions{Region: s.region})
	switch code(err) {
	case minio.BucketAlreadyOwnedByYou, minio.BucketAlreadyExists: // another server was first
		return nil
	}
	return translate(ctx, err, "make bucket", bucket, "")
}

// Versioned reports whether the bucket keeps the versions of its objects.
func (s *Store) Versioned(ctx context.Context, bucket string) (bool, error) {
	c, err := s.core.GetBucketVersioning(ctx, bucket)
	if err != nil {
		return false, translate(ctx, err, "read versioning of", bucket, "")
	}
	return c.Status != "", nil // once on, versions stay even when it is suspended
}
