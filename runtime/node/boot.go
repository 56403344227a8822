package node

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// bootRecord is boot.json. A boot is a life of the agent, or of several in a row
// that could adopt each other's containers.
type bootRecord struct {
	Boot   string `json:"boot"`
	Kernel string `json:"kernel"` // the machine's own boot: it ends every container
	Epoch  uint64 `json:"epoch"`  // highest seen
}

const kernelBoot = "/proc/sys/kernel/random/boot_id"

// loadBoot returns the boot of the agent before, or a new one when its containers
// cannot be alive any more or nothing is known of them.
func loadBoot(dataDir string) (boot bootRecord, fresh bool, err error) {
	id, err := os.ReadFile(kernelBoot)
	if err != nil {
		return bootRecord{}, false, fmt.Errorf("read boot id of the machine: %w", err)
	}
	kernel := strings.TrimSpace(string(id))
	file := filepath.Join(dataDir, "boot.json")
	known, err := readJSON(file, &boot)
	if err == nil && known && boot.Kernel == kernel && boot.Boot != "" {
		return boot, false, nil
	}
	// A file that cannot be read is state that is gone.
	boot = bootRecord{Boot: strings.ToLower(rand.Text()[:16]), Kernel: kernel, Epoch: boot.Epoch}
	return boot, true, writeJSON(file, boot)
}

// sawEpoch remembers the highest epoch, so that an old leader's late order finds
// no ear after a restart either.
func (b *bootRecord) sawEpoch(dataDir string, epoch uint64) error {
	if epoch <= b.Epoch {
		return nil
	}
	next := *b
	next.Epoch = epoch
	if err := writeJSON(filepath.Join(dataDir, "boot.json"), next); err != nil {
		return err
	}
	*b = next
	return nil
}
