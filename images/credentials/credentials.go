// Package credentials finds the credentials for image registries: in a file of
// Spillway's own, and then where Docker's command line has them.
package credentials

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/spillway/spillway/functions"
)

// Keychain finds credentials. Files are read each time, so that a new login
// counts at once.
type Keychain struct{ file string }

// Open checks a file of credentials, which looks like the one that docker login
// writes: {"auths": {"registry:5000": {"auth": "base64 of user:password"}}}, or
// with username and password, or with identitytoken. Without a file there is only
// what Docker has: config.json in DOCKER_CONFIG or ~/.docker, and the helpers that
// it names.
func Open(file string) (*Keychain, error) {
	k := &Keychain{file: file}
	_, err := k.own()
	return k, err
}

// own reads the file. Its keys are registries as name.Registry writes them.
func (k *Keychain) own() (map[string]authn.AuthConfig, error) {
	if k.file == "" {
		return nil, nil
	}
	bad := func(err error) error {
		return functions.Invalid("bad_registry_auth", "the file of registry credentials %s cannot be used", k.file).
			WithHint(`write it as docker login does: {"auths": {"registry:5000": {"auth": "base64 of user:password"}}}`).WithCause(err)
	}
	data, err := os.ReadFile(k.file)
	if err != nil {
		return nil, bad(err)
	}
	var content struct {
		Auths map[string]authn.AuthConfig `json:"auths"`
	}
	if err := json.Unmarshal(data, &content); err != nil {
		return nil, bad(err)
	}
	all := make(map[string]authn.AuthConfig, len(content.Auths))
	for key, auth := range content.Auths {
		registry, err := registryOf(key)
		if err != nil {
			return nil, bad(err)
		}
		if auth == (authn.AuthConfig{}) {
			return nil, bad(fmt.Errorf("%s has neither auth nor username nor identitytoken", key))
		}
		all[registry.RegistryStr()] = auth
	}
	return all, nil
}

// registryOf reads a key of such a file: old ones are URLs.
func registryOf(key string) (name.Registry, error) {
	_, after, isURL := strings.Cut(key, "://")
	if isURL {
		key = after
	}
	key, _, _ = strings.Cut(key, "/")
	return name.NewRegistry(key)
}

// Resolve implements authn.Keychain.
func (k *Keychain) Resolve(what authn.Resource) (authn.Authenticator, error) {
	own, err := k.own()
	if err != nil {
		return nil, err
	}
	if auth, ok := own[what.RegistryStr()]; ok {
		return authn.FromConfig(auth), nil
	}
	auth, err := authn.DefaultKeychain.Resolve(what)
	if err != nil {
		return nil, functions.Invalid("bad_docker_config", "Docker's credentials for registry %s cannot be read", what.RegistryStr()).
			WithHint("check config.json in DOCKER_CONFIG or ~/.docker, and the helpers that it names").WithCause(err)
	}
	return auth, nil
}

// Lookup gives the credentials for a registry, such as docker.io or host:5000. ok
// is false when there are none. With the username "<token>" the secret is an
// identity token.
func (k *Keychain) Lookup(registry string) (username, secret string, ok bool, err error) {
	r, err := name.NewRegistry(registry)
	if err != nil {
		return "", "", false, functions.Invalid("bad_registry", "%q does not name a registry", registry).WithCause(err)
	}
	found, err := k.Resolve(r)
	if err != nil {
		return "", "", false, err
	}
	auth, err := found.Authorization()
	switch {
	case err != nil:
		return "", "", false, fmt.Errorf("credentials for registry %s: %w", registry, err)
	case auth.IdentityToken != "":
		return "<token>", auth.IdentityToken, true, nil
	}
	return auth.Username, auth.Password, auth.Username != "", nil
}
