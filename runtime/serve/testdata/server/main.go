// Command server is an HTTP function that does what its event asks for.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

var served atomic.Int64

func main() {
	host, err := os.Hostname()
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("GET /health", func(w http.ResponseWriter, r *http.Request) {})
	http.HandleFunc("POST /echo", func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	http.HandleFunc("POST /", func(w http.ResponseWriter, r *http.Request) {
		var event struct {
			Do  string `json:"do"`
			N   int    `json:"n"`
			Say string `json:"say"`
		}
		if err := json.NewDecoder(r.Body).Decode(&event); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		number := served.Add(1)
		if event.Say != "" {
			fmt.Println(event.Say)
		}
		switch event.Do {
		case "kill":
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		case "exit":
			os.Exit(event.N)
		case "sleep":
			time.Sleep(time.Duration(event.N) * time.Millisecond)
		case "status":
			w.WriteHeader(event.N)
		case "eat":
			for b := []byte(nil); ; b = append(b, make([]byte, 1<<20)...) {
				for i := 0; i < len(b); i += 4096 {
					b[i] = 1
				}
			}
		case "text":
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			fmt.Fprint(w, "plain words")
			return
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string]any{
			"host": host, "served": number, "task": r.Header.Get("X-Task-Id"), "uid": os.Getuid(),
			"deadline": r.Header.Get("X-Task-Deadline-Ms"), "attempt": r.Header.Get("X-Task-Attempt"),
		})
	})
	port := os.Getenv("PORT")
	if _, err := strconv.Atoi(port); err != nil {
		log.Fatalf("PORT is %q", port)
	}
	log.Fatal(http.ListenAndServe("127.0.0.1:"+port, nil))
}
