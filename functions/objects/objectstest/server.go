// Package objectstest is the conformance suite of object stores, and runs the
// embedded store for tests of other packages.
package objectstest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/spillway/spillway/functions/objects/miniotest"
)

// Kind is a kind of store, as far as its known gaps differ.
type Kind string

const (
	KindEmbedded    Kind = "embedded"
	KindEmbeddedTLS Kind = "embedded over TLS"
	KindMinIO       Kind = "minio"
	KindOther       Kind = "other"
)

// Server is a store to test.
type Server struct {
	Kind      Kind
	Endpoint  string // http://host:port or https://host:port
	AccessKey string // empty = miniotest.AccessKey
	SecretKey string
	RootCAs   *x509.CertPool // nil = the system's

	// WithoutCLI leaves the AWS command line out, which takes a second per call,
	// for a store whose front another run has shown.
	WithoutCLI bool

	Stdout bytes.Buffer // of the child that Embedded started; read it after Stop or Kill

	certFile string // of a server over TLS that Embedded started

	cmd  *exec.Cmd
	done chan struct{} // closed when the child is gone
}

func (s *Server) accessKey() string {
	if s.AccessKey == "" {
		return miniotest.AccessKey
	}
	return s.AccessKey
}

func (s *Server) secretKey() string {
	if s.AccessKey == "" {
		return miniotest.SecretKey
	}
	return s.SecretKey
}

// Kill ends the child at once, as a crash would. Killing it twice is no error.
func (s *Server) Kill() {
	_ = s.cmd.Process.Kill()
	<-s.done
}

// Stop asks the child to end, waits, and returns its exit code.
func (s *Server) Stop() int {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	<-s.done
	return s.cmd.ProcessState.ExitCode()
}

// certificate makes a self-signed one for 127.0.0.1.
func certificate(t testing.TB) (certFile, keyFile string, roots *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	roots = x509.NewCertPool()
	roots.AppendCertsFromPEM(certPEM)
	return write("cert.pem", certPEM), write("key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})), roots
}
