package webhooks

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/spillway/spillway/functions"
	"github.com/spillway/spillway/gateway/ends"
	"github.com/spillway/spillway/gateway/ends/endstest"
)

// check is written from the text of Standard Webhooks, not from sign.
func check(key []byte, h http.Header, body []byte) error {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(h.Get("webhook-id") + "." + h.Get("webhook-timestamp") + "." + string(body)))
	if want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)); h.Get("webhook-signature") != want {
		return fmt.Errorf("signature %s, want %s", h.Get("webhook-signature"), want)
	}
	return nil
}

// leading runs the server's term until what it returns is called.
func (w *world) leading() (stop func()) { return endstest.Lead(w.hooks.Run) }

const (
	one functions.TaskID = "0190c3a5-0000-7000-8000-000000000001"
	two functions.TaskID = "0190c3a5-0000-7000-8000-000000000002"
)

func TestAnEndIsToldSigned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		defer w.leading()()
		w.set(one, "https://hook/1", functions.Queued, true)
		w.set(two, "", functions.Failed, true)
		w.set(one, "https://hook/1", functions.Succeeded, true)
		synctest.Wait()
		if len(w.calls) != 1 {
			t.Fatalf("%d calls: %+v", len(w.calls), w.calls)
		}
		c := w.calls[0]
		if err := verify(c); err != nil {
			t.Error(err)
		}
		var m struct {
			Type   string           `json:"type"`
			TaskID functions.TaskID `json:"task_id"`
			Data   struct {
				State string `json:"state"`
			} `json:"data"`
		}
		if err := json.Unmarshal(c.body, &m); err != nil || m.Type != "task.succeeded" || m.TaskID != one || m.Data.State != "succeeded" {
			t.Errorf("%s: %v", c.body, err)
		}
		for _, d := range w.Deliveries() {
			if d.Delivered.IsZero() || !d.Next.IsZero() || d.Count != 1 || d.Tries[0].Status != 200 {
				t.Errorf("the record says %+v", d)
			}
		}

		w.set(one, "https://hook/1", functions.Queued, true) // the client retries it
		time.Sleep(time.Second)
		w.set(one, "https://hook/1", functions.Failed, true)
		synctest.Wait()
		if len(w.calls) != 2 || w.calls[0].header.Get("Webhook-Id") == w.calls[1].header.Get("Webhook-Id") {
			t.Errorf("the second end was not told as another: %d calls", len(w.calls))
		}
	})
}

func TestTriesUntilItIsHeard(t *testing.T) {
	fail := func(status int) func(string, int) (int, time.Duration, error) {
		return func(string, int) (int, time.Duration, error) { return status, 0, nil }
	}
	for name, c := range map[string]struct {
		answer func(string, int) (int, time.Duration, error)
		after  []time.Duration // of the calls, since the first
		gaveUp string
	}{
		"at once": {fail(204), []time.Duration{0}, ""},
		"at the third try": {func(_ string, n int) (int, time.Duration, error) {
			if n < 3 {
				return 500, 0, nil
			}
			return 200, 0, nil
		}, []time.Duration{0, 5 * time.Second, 35 * time.Second}, ""},
		"as late as the server asks": {func(_ string, n int) (int, time.Duration, error) {
			if n == 1 {
				return 429, 90 * time.Second, nil
			}
			return 200, 0, nil
		}, []time.Duration{0, 90 * time.Second}, ""},
		"a redirect is no success": {func(_ string, n int) (int, time.Duration, error) {
			if n == 1 {
				return 307, 0, nil
			}
			return 200, 0, nil
		}, []time.Duration{0, 5 * time.Second}, ""},
		"gone": {fail(410), []time.Duration{0}, "the server answered 410: it wants no more"},
		"forbidden": {func(string, int) (int, time.Duration, error) {
			return 0, 0, functions.Forbidden("internal_address", "10.0.0.1 is not public")
		}, []time.Duration{0}, "the URL may not be called: 10.0.0.1 is not public"},
		"never": {func(string, int) (int, time.Duration, error) { return 0, 0, errors.New("connection refused") }, []time.Duration{
			0, 5 * time.Second, 35 * time.Second, 155 * time.Second, 755 * time.Second, 2555 * time.Second, 9755 * time.Second, 27755 * time.Second, 63755 * time.Second, 128555 * time.Second,
		}, "10 tries have failed"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				w.answer = c.answer
				defer w.leading()()
				w.set(one, "https://hook/1", functions.Failed, true)
				time.Sleep(7 * 24 * time.Hour)
				synctest.Wait()
				if len(w.calls) != len(c.after) {
					t.Fatalf("%d calls, want %d", len(w.calls), len(c.after))
				}
				for i, call := range w.calls {
					if got := call.at.Sub(w.calls[0].at); got != c.after[i] {
						t.Errorf("call %d after %s, want %s", i+1, got, c.after[i])
					}
					if err := verify(call); err != nil {
						t.Errorf("call %d: %v", i+1, err)
					}
				}
				for _, d := range w.Deliveries() {
					if d.GaveUp != c.gaveUp || d.Delivered.IsZero() != (c.gaveUp != "") || len(d.Tries) > mostKept || d.Count != len(c.after) {
						t.Errorf("the record says %+v", d)
					}
				}
			})
		})
	}
}

func TestATaskThatIsBegunAgainIsNotToldOfTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.answer = func(_ string, n int) (int, time.Duration, error) {
			return map[bool]int{true: 500, false: 200}[n == 1], 0, nil
		}
		defer w.leading()()
		w.set(one, "https://hook/1", functions.Failed, true)
		synctest.Wait()
		w.set(one, "https://hook/1", functions.Queued, true)
		time.Sleep(time.Minute)
		if len(w.calls) != 1 {
			t.Errorf("a task that runs again was told of %d times", len(w.calls))
		}
		w.set(one, "https://hook/1", functions.Succeeded, true)
		synctest.Wait()
		if len(w.calls) != 2 {
			t.Errorf("its second end was not told")
		}
	})
}

func TestMoreEndsThanAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		defer w.leading()()
		n := ends.MostWaiting + 500
		for i := range n {
			w.set(functions.TaskID(fmt.Sprintf("0190c3a5-0000-7000-8000-%012d", i)), fmt.Sprintf("https://hook/%d", i), functions.Succeeded, true)
		}
		time.Sleep(5 * time.Minute)
		if heard := told(w); len(heard) != n {
			t.Errorf("%d of %d ends were told", len(heard), n)
		}
	})
}

func TestTheLogDoesNotReachBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.leading()()
		w.First = 50
		w.set(one, "https://hook/1", functions.Succeeded, false) // while nobody led, and the mark is older than the log
		w.restart()
		defer w.leading()()
		w.set(two, "https://hook/2", functions.Succeeded, true)
		synctest.Wait()
		if heard := told(w); heard["https://hook/2"] != 1 {
			t.Errorf("it does not go on: %v", heard)
		}
	})
}

// What the search of the log meets beyond the end that it was to reach is heard of
// as well, and told once.
func TestAnEndDuringTheSearchIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.leading()()
		w.restart()
		w.set(one, "https://hook/1", functions.Succeeded, false) // while nobody led
		w.Asked = sync.OnceFunc(func() { w.set(two, "https://hook/2", functions.Succeeded, true) })
		defer w.leading()()
		time.Sleep(time.Minute)
		if heard := told(w); heard["https://hook/1"] != 1 || heard["https://hook/2"] != 1 {
			t.Errorf("told so often: %v", heard)
		}
	})
}

func told(w *world) map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	heard := map[string]int{}
	for _, c := range w.calls {
		heard[c.url]++
	}
	return heard
}

// TestEveryEndIsTold, whoever led when it came, and whatever failed.
func TestEveryEndIsTold(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		steps := rapid.SliceOfN(rapid.IntRange(0, endstest.MostSteps), 1, 40).Draw(rt, "steps")
		failing := rapid.IntRange(1, 5).Draw(rt, "one call fails in")
		var fault string
		synctest.Test(t, func(*testing.T) { fault = history(steps, failing) })
		if fault != "" {
			rt.Fatal(fault)
		}
	})
}

// history plays the steps; of the calls, one in failing is refused.
func history(steps []int, failing int) (fault string) {
	w := newWorld()
	calls := 0
	w.answer = func(string, int) (int, time.Duration, error) {
		calls++
		if calls%failing == 0 && calls < 100 {
			return 503, 0, nil
		}
		return 200, 0, nil
	}
	want := map[string]bool{}
	w.Play(steps, func(i, _ int) {
		url := fmt.Sprintf("https://hook/%d", i)
		w.set(functions.TaskID(fmt.Sprintf("0190c3a5-0000-7000-8000-%012d", i)), url, functions.Succeeded, true)
		want[url] = true
	}, w.restart, w.leading)
	heard, ids := told(w), map[string]string{}
	for url := range want {
		if heard[url] == 0 {
			return url + " was never told"
		}
	}
	for _, c := range w.calls {
		if id := c.header.Get("Webhook-Id"); ids[c.url] != "" && ids[c.url] != id {
			return c.url + " was told of one end as of two"
		} else {
			ids[c.url] = id
		}
	}
	return ""
}

func TestParseSecret(t *testing.T) {
	for text, ok := range map[string]bool{
		secretText: true, "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw": false, "whsec_": false, "whsec_c2hvcnQ=": false, "whsec_***": false,
	} {
		s, err := ParseSecret(text)
		if (err == nil) != ok || ok && s.Text() != text {
			t.Errorf("%s: %v", text, err)
		}
	}
}
