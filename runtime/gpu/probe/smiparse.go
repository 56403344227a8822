package probe

import (
	"math"
	"strconv"
	"strings"

	"github.com/spillway/spillway/functions"
)

// parseSMI reads the table that nvidia-smi writes for the fields, and returns with
// it the lines that are no row of it. A name may hold commas: nvidia-smi quotes
// none. What a GPU does not say is -1: nvidia-smi writes [N/A], [Not Supported],
// [Unknown Error] or ERR! there.
func parseSMI(fields []string, out string) (driver string, devices []Device, odd []string) {
	seen := map[string]bool{}
	for text := range strings.Lines(out) {
		text = strings.TrimSpace(text)
		if text == "" || text == "No devices were found" {
			continue
		}
		row, ok := smiRow(fields, text)
		d := smiDevice(row)
		if !ok || d.Index < 0 || d.UUID == "" || seen[d.UUID] {
			odd = append(odd, firstLine(text))
			continue
		}
		seen[d.UUID] = true
		devices = append(devices, d)
		if driver == "" {
			driver = row["driver_version"]
		}
	}
	return driver, devices, odd
}

// smiRow splits a line. The cells beyond the number of fields are the name's.
func smiRow(fields []string, text string) (map[string]string, bool) {
	cells := strings.Split(text, ",")
	extra := len(cells) - len(fields)
	if extra < 0 {
		return nil, false
	}
	row := map[string]string{}
	for _, field := range fields {
		n := 1
		if field == "name" {
			n += extra
		}
		value := strings.TrimSpace(strings.Join(cells[:n], ","))
		cells = cells[n:]
		if strings.HasPrefix(value, "[") || value == "N/A" || value == "ERR!" {
			value = ""
		}
		row[field] = strings.ToValidUTF8(value, "")
	}
	return row, len(cells) == 0
}

func smiDevice(row map[string]string) Device {
	d := Device{
		UUID: row["uuid"], BusID: row["pci.bus_id"], Model: row["name"],
		Index: int(smiNumber(row["index"], math.MaxInt32)), Minor: -1,
		Total: smiMemory(row["memory.total"]), Used: smiMemory(row["memory.used"]), Free: smiMemory(row["memory.free"]),
		Utilisation: int(smiNumber(row["utilization.gpu"], 100)),
		ECC:         smiNumber(row["ecc.errors.uncorrected.volatile.total"], math.MaxInt64),
		MIG:         row["mig.mode.current"] == "Enabled",
	}
	if d.MIG {
		d.Error = "its MIG instances are seen by gpuprobe alone, which does not run here"
	}
	return d
}

// smiMemory reads a number of MiB.
func smiMemory(v string) functions.Bytes {
	n := smiNumber(v, math.MaxInt64/int64(functions.MiB))
	if n < 0 {
		return -1
	}
	return functions.Bytes(n) * functions.MiB
}

// smiNumber reads a whole number up to most; -1 = it is none.
func smiNumber(v string, most int64) int64 {
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < 0 || n > most {
		return -1
	}
	return n
}
