package functions

// Next is where a task goes after a GPU attempt of it has failed, when its policy
// allows every device. Under policy required, what would go to the CPU waits for
// another GPU; where there is no other, for the same to work again, unless it is
// the program that it does not suit.
type Next string

const (
	NextDevice Next = "device" // another device that is free now, on any node; else the CPU
	NextHost   Next = "host"   // a GPU of another node that is free now; else the CPU
	NextBigger Next = "bigger" // one try with more memory or alone, if such a place is free now; else the CPU
	NextCPU    Next = "cpu"    // the CPU at once
	NextNone   Next = "none"   // the device is not the cause: the rules for everybody apply
)

// Blame is what the end of an attempt says of a device or of a host.
type Blame string

const (
	BlameNothing Blame = ""      // it says nothing: the attempt may never have come so far
	BlameCleared Blame = "clear" // it worked
	BlameFault   Blame = "fault" // it may be at fault; several in a row count
	BlameFatal   Blame = "fatal" // once is enough
)

// Reaction is what follows the failure of an attempt that held a GPU.
type Reaction struct {
	Next   Next
	Host   Blame // of all the node's GPUs
	Device Blame // of those that the attempt held
}

// reactions is the whole table. A class that is not in it ran, and blames no GPU.
var reactions = map[Class]Reaction{
	GPUHost:    {NextHost, BlameFault, BlameNothing},
	GPUHung:    {NextHost, BlameFatal, BlameNothing}, // it has cost its whole deadline already
	GPUDevice:  {NextDevice, BlameNothing, BlameFault},
	GPUUnknown: {NextCPU, BlameNothing, BlameFault}, // the CPU attempt is the test
	GPUImage:   {NextHost, BlameNothing, BlameNothing},

	GPULost:     {NextDevice, BlameCleared, BlameFatal},
	GPUMissing:  {NextHost, BlameCleared, BlameFault},
	GPUMemory:   {NextBigger, BlameCleared, BlameNothing},
	GPUUnsuited: {NextHost, BlameCleared, BlameNothing},
	Declined:    {NextCPU, BlameCleared, BlameNothing},

	BadEntry:       {NextNone, BlameNothing, BlameNothing},
	ImageMissing:   {NextNone, BlameNothing, BlameNothing},
	Infra:          {NextNone, BlameNothing, BlameNothing},
	InputGone:      {NextNone, BlameNothing, BlameNothing},
	Store:          {NextNone, BlameNothing, BlameNothing},
	NodeLost:       {NextNone, BlameNothing, BlameNothing},
	Refused:        {NextNone, BlameNothing, BlameNothing},
	CanceledByUser: {NextNone, BlameNothing, BlameNothing},
	QueueExpired:   {NextNone, BlameNothing, BlameNothing},
	UploadExpired:  {NextNone, BlameNothing, BlameNothing},
}

// React returns what follows an attempt on a GPU that failed with c; the empty
// class is success.
func React(c Class) Reaction {
	if r, ok := reactions[c]; ok {
		return r
	}
	return Reaction{Next: NextNone, Host: BlameCleared, Device: BlameCleared}
}
