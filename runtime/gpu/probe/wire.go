package probe

import (
	"encoding/json"

	"github.com/spillway/spillway/functions"
)

// On the wire sizes are plain numbers: the text of functions.Bytes has no -1.

type (
	bareDevice  Device
	bareProcess Process

	wireDevice struct {
		bareDevice
		Total int64 `json:"total"`
		Used  int64 `json:"used"`
		Free  int64 `json:"free"`
	}
	wireProcess struct {
		bareProcess
		Memory int64 `json:"memory"`
	}
)

// MarshalJSON implements json.Marshaler.
func (d Device) MarshalJSON() ([]byte, error) {
	return json.Marshal(wireDevice{bareDevice(d), int64(d.Total), int64(d.Used), int64(d.Free)})
}

// UnmarshalJSON implements json.Unmarshaler.
func (d *Device) UnmarshalJSON(text []byte) error {
	var w wireDevice
	if err := json.Unmarshal(text, &w); err != nil {
		return err
	}
	*d = Device(w.bareDevice)
	d.Total, d.Used, d.Free = functions.Bytes(w.Total), functions.Bytes(w.Used), functions.Bytes(w.Free)
	return nil
}

// MarshalJSON implements json.Marshaler.
func (p Process) MarshalJSON() ([]byte, error) {
	return json.Marshal(wireProcess{bareProcess(p), int64(p.Memory)})
}

// UnmarshalJSON implements json.Unmarshaler.
func (p *Process) UnmarshalJSON(text []byte) error {
	var w wireProcess
	if err := json.Unmarshal(text, &w); err != nil {
		return err
	}
	*p = Process(w.bareProcess)
	p.Memory = functions.Bytes(w.Memory)
	return nil
}
