package objects_test

import (
	"os"
	"testing"

	"github.com/spillway/spillway/functions/objects/miniotest"
	"github.com/spillway/spillway/functions/objects/objectstest"
)

func TestMain(m *testing.M) { os.Exit(objectstest.Main(m)) }

func TestConformanceOfTheEmbeddedStore(t *testing.T) {
	for name, o := range map[string]objectstest.EmbeddedOptions{
		"xattrs":   {},
		"TLS":      {TLS: true},
		"side-car": {SideCar: true},
	} {
		t.Run(name, func(t *testing.T) {
			o.Origin = objectstest.Origin
			srv := objectstest.Embedded(t, o)
			objectstest.Suite(t, srv)
			if code := srv.Stop(); code != 0 {
				t.Errorf("the store ended with %d", code)
			}
			if out := srv.Stdout.String(); out != "" {
				t.Errorf("the store wrote to standard output: %q", out)
			}
		})
	}
}

func TestConformanceOfMinIO(t *testing.T) {
	// Nobody listens there; MinIO wants the target to exist, not to answer.
	env := miniotest.WebhookEnv("SUITE", "http://127.0.0.1:9/", "token", t.TempDir())
	m := miniotest.Start(t, miniotest.Options{Env: env})
	objectstest.Suite(t, &objectstest.Server{Kind: objectstest.KindMinIO, Endpoint: m.Endpoint})
}

func TestConformanceOfAnotherStore(t *testing.T) {
	endpoint := os.Getenv("SPILLWAY_TEST_S3_ENDPOINT")
	if endpoint == "" {
		t.Skip("SPILLWAY_TEST_S3_ENDPOINT is not set")
	}
	objectstest.Suite(t, &objectstest.Server{
		Kind: objectstest.KindOther, Endpoint: endpoint,
		AccessKey: os.Getenv("SPILLWAY_TEST_S3_KEY"), SecretKey: os.Getenv("SPILLWAY_TEST_S3_SECRET"),
	})
}
