package objects_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
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
			srv.WithoutCLI = o.SideCar
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
	// MinIO wants a target without a queue folder to answer when it starts.
	hook := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(hook.Close)
	env := slices.Concat(
		miniotest.WebhookEnv("FAST", hook.URL, "token", ""),
		miniotest.WebhookEnv("DURABLE", hook.URL, "token", t.TempDir()))
	m := miniotest.Start(t, miniotest.Options{Env: env})
	objectstest.Suite(t, &objectstest.Server{Kind: objectstest.KindMinIO, Endpoint: m.Endpoint})
}

// SPILLWAY_TEST_S3_ENDPOINT names a store of yours: http://host:port or
// https://host:port. SPILLWAY_TEST_S3_KEY and SPILLWAY_TEST_S3_SECRET are its
// keys. The suite makes buckets that begin with "t-" and leaves them behind; a
// store that lacks something fails that row.
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
