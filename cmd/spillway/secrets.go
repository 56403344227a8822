package main

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/webhooks"
)

// secrets are made at the first start and kept, readable by the owner alone.
type secrets struct {
	APIKey        string `json:"api_key"`
	StoreAccess   string `json:"store_access_key"`
	StoreSecret   string `json:"store_secret_key"`
	EngineToken   string `json:"engine_token"`
	WebhookToken  string `json:"webhook_token"`     // of what stores call here
	WebhookSecret string `json:"webhook_secret"`    // signs what we call
	AWSAccessKey  string `json:"aws_access_key_id"` // with which AWS's clients sign their calls here
	AWSSecret     string `json:"aws_secret_access_key"`
}

// openData makes the data folder and takes its lock: two processes on one
// folder would each believe they own its containers.
func openData(dir string) (release func(), err error) {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, fmt.Errorf("make the data folder: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the data folder's lock: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		return nil, functions.Conflict("data_in_use", "%s is in use by another spillway process", dir).
			WithHint("stop it, or name another folder with --data")
	}
	return func() { lock.Close() }, nil
}

func loadSecrets(dir string) (secrets, error) {
	path := filepath.Join(dir, "secrets.json")
	var s secrets
	b, err := os.ReadFile(path)
	if err == nil {
		if err := json.Unmarshal(b, &s); err != nil {
			return s, fmt.Errorf("read %s: %w", path, err)
		}
		before := s
		if s.WebhookSecret == "" { // of a data folder that was made before there were any
			s.WebhookSecret = newWebhookSecret()
		}
		if s.AWSAccessKey == "" || s.AWSSecret == "" { // likewise
			s.AWSAccessKey, s.AWSSecret = newAWSKey()
		}
		if s == before {
			return s, nil
		}
		return s, keepSecrets(path, s)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return s, fmt.Errorf("read the secrets: %w", err)
	}
	s = secrets{
		APIKey:        "spillway_" + rand.Text(),
		StoreAccess:   "spillway",
		StoreSecret:   rand.Text(),
		EngineToken:   rand.Text(),
		WebhookToken:  rand.Text(),
		WebhookSecret: newWebhookSecret(),
	}
	s.AWSAccessKey, s.AWSSecret = newAWSKey()
	if err := writeSynced(filepath.Join(dir, "api-key"), []byte(s.APIKey+"\n")); err != nil {
		return s, fmt.Errorf("write the API key: %w", err)
	}
	return s, keepSecrets(path, s)
}

func newWebhookSecret() string {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // it never fails
	return webhooks.Secret(key).Text()
}

func keepSecrets(path string, s secrets) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	if err := writeSynced(path, b); err != nil {
		return fmt.Errorf("write the secrets: %w", err)
	}
	return nil
}

// writeSynced replaces a file whole and survives a power cut: the store's keys
// in it are those of every object that is kept.
func writeSynced(path string, b []byte) (err error) {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
