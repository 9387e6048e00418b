// Judges a lockproof history with Porcupine and prints what it found and what it cost as one JSON object.
//
//	porcupine -model lock|register|fenced -seconds 20 -megabytes 5120 -repeat 3 FILE
//
// Operations of unknown outcome return after everything else and are allowed to have had no effect, which is
// how Porcupine's users model them. Histories with ids that the backend chose are not understood.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"hash/fnv"
	"math"
	"os"
	"runtime"
	"syscall"
	"time"

	"github.com/anishathalye/porcupine"
)

type event struct {
	I   int64           `json:"i"`
	P   int             `json:"p"`
	E   string          `json:"e"`
	F   string          `json:"f"`
	WS  string          `json:"ws"`
	In  given           `json:"in"`
	Out json.RawMessage `json:"out"`
	Err refusal         `json:"err"`
}

type given struct {
	Info   struct{ ID string } `json:"info"`
	LockID *string             `json:"lock_id"`
	Value  string              `json:"value"`
}

type refusal struct {
	Kind   string `json:"kind"`
	Holder *struct{ ID string }
}

// call is what was asked: `id` is the lock id of a lock, an unlock or a write under a lock.
type call struct{ f, ws, id, value string }

// answer is what came back: `kind` is ok, fail or info; `holder` whom a refusal named; `value` what was read.
type answer struct{ kind, holder, value string }

// state is a workspace: who holds its lock, and what is stored.
type state struct{ holder, value string }

func read(path string) ([]porcupine.Operation, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(make([]byte, 1<<20), 1<<24)
	var operations []porcupine.Operation
	open := map[int]int{}
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, err
		}
		switch e.E {
		case "invoke":
			open[e.P] = len(operations)
			input := call{e.F, e.WS, e.In.Info.ID, e.In.Value}
			if e.In.LockID != nil {
				input.id = *e.In.LockID
			}
			operations = append(operations, porcupine.Operation{
				ClientId: e.P, Input: input, Output: answer{kind: "info"}, Call: e.I, Return: math.MaxInt64})
		case "ok", "fail", "info":
			operation := &operations[open[e.P]]
			delete(open, e.P)
			output := answer{kind: e.E}
			if e.Err.Holder != nil {
				output.holder = e.Err.Holder.ID
			}
			if e.F == "get" && e.E == "ok" {
				var seen struct{ Value *string }
				if err := json.Unmarshal(e.Out, &seen); err != nil {
					return nil, err
				}
				if seen.Value != nil {
					output.value = *seen.Value
				}
			}
			operation.Output = output
			if e.E != "info" {
				operation.Return = e.I
			}
		}
	}
	return relevant(operations), lines.Err()
}

// relevant leaves out what tells nothing: reads without an answer, refusals without a reason.
func relevant(operations []porcupine.Operation) []porcupine.Operation {
	kept := operations[:0]
	for _, operation := range operations {
		input, output := operation.Input.(call), operation.Output.(answer)
		if input.f == "get" && output.kind != "ok" || input.f == "put" && input.id == "" && output.kind == "fail" {
			continue
		}
		kept = append(kept, operation)
	}
	return kept
}

func step(s, i, o interface{}) (bool, interface{}) {
	now, in, out := s.(state), i.(call), o.(answer)
	held := now.holder != "" && now.holder == in.id
	if out.kind == "fail" {
		if out.holder != "" {
			return now.holder == out.holder, now
		}
		if in.f == "lock" {
			return now.holder != "", now
		}
		return !held, now
	}
	unknown := out.kind == "info"
	switch in.f {
	case "lock":
		if now.holder == "" {
			return true, state{in.id, now.value}
		}
		return unknown || held, now
	case "unlock":
		if held {
			return true, state{"", now.value}
		}
		return unknown || now.holder == "", now
	case "put":
		if in.id == "" || held {
			return true, state{now.holder, in.value}
		}
		return unknown, now
	case "delete":
		return true, state{now.holder, ""}
	}
	return out.value == now.value, now
}

func model() porcupine.Model {
	return porcupine.Model{
		Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
			places := map[string]int{}
			var parts [][]porcupine.Operation
			for _, operation := range history {
				ws := operation.Input.(call).ws
				at, known := places[ws]
				if !known {
					at = len(parts)
					places[ws] = at
					parts = append(parts, nil)
				}
				parts[at] = append(parts[at], operation)
			}
			return parts
		},
		Init:  func() interface{} { return state{} },
		Step:  step,
		Equal: func(a, b interface{}) bool { return a == b },
		Hash: func(s interface{}) uint64 {
			h := fnv.New64a()
			h.Write([]byte(s.(state).holder + "/" + s.(state).value))
			return h.Sum64()
		},
	}
}

type report struct {
	Result     string    `json:"result"`
	Operations int       `json:"operations"`
	Seconds    []float64 `json:"seconds"`
	Megabytes  float64   `json:"megabytes"`
}

func (r report) print() {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) == nil {
		r.Megabytes = float64(usage.Maxrss) / 1024
	}
	line, _ := json.Marshal(r)
	fmt.Println(string(line))
}

// busy is the processor time that this process has used, in seconds.
func busy() float64 {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9
}

// guard ends the process, with a report, when the heap outgrows the limit.
func guard(megabytes uint64, operations int) {
	for range time.Tick(50 * time.Millisecond) {
		var memory runtime.MemStats
		runtime.ReadMemStats(&memory)
		if memory.HeapAlloc > megabytes<<20 {
			report{"memory", operations, []float64{busy()}, 0}.print()
			os.Exit(0)
		}
	}
}

func main() {
	seconds := flag.Float64("seconds", 20, "limit of one run")
	megabytes := flag.Uint64("megabytes", 5120, "limit of the heap")
	repeat := flag.Int("repeat", 3, "runs, when they are short")
	flag.Parse()
	operations, err := read(flag.Arg(0))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	runtime.GC()
	go guard(*megabytes, len(operations))
	found := report{Operations: len(operations)}
	for run := 0; run < *repeat; run++ {
		start := time.Now()
		before := busy()
		limit := time.Duration(*seconds * float64(time.Second))
		result := porcupine.CheckOperationsTimeout(model(), operations, limit)
		found.Seconds = append(found.Seconds, busy()-before)
		found.Result = map[porcupine.CheckResult]string{
			porcupine.Ok: "valid", porcupine.Illegal: "violated", porcupine.Unknown: "time"}[result]
		if time.Since(start).Seconds() > 2 {
			break
		}
	}
	found.print()
}
