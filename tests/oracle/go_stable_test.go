// Holds go_stable.py against Go's own sort: `go test tests/oracle/go_stable_test.go` (needs python3).
package oracle

import (
	"bytes"
	"encoding/json"
	"math/rand"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"
)

type entry struct {
	path      string
	directory bool
}

func compare(x, y entry) int {
	if x.path == y.path {
		return 0
	}
	a, b := strings.Split(x.path, "/"), strings.Split(y.path, "/")
	n := 0
	for n < len(a)-1 && n < len(b)-1 {
		if c := strings.Compare(a[n], b[n]); c != 0 {
			return c
		}
		n++
	}
	ad, bd := n+1 < len(a) || x.directory, n+1 < len(b) || y.directory
	if ad == bd {
		return strings.Compare(a[n], b[n])
	}
	if !ad {
		return -1
	}
	return 1
}

func TestSameAsGo(t *testing.T) {
	random := rand.New(rand.NewSource(1))
	var lists [][][2]any
	var want [][][2]any
	for range 500 {
		var entries []entry
		for range random.Intn(120) {
			parts := make([]string, random.Intn(4)+1)
			for i := range parts {
				parts[i] = string(rune('a' + random.Intn(4)))
			}
			entries = append(entries, entry{strings.Join(parts, "/"), random.Intn(2) == 0})
		}
		pairs := func() (out [][2]any) {
			out = [][2]any{}
			for _, e := range entries {
				out = append(out, [2]any{e.path, e.directory})
			}
			return out
		}
		lists = append(lists, pairs())
		slices.SortStableFunc(entries, compare)
		want = append(want, pairs())
	}
	input, _ := json.Marshal(lists)
	python := exec.Command("python3", "go_stable.py")
	python.Stdin = bytes.NewReader(input)
	output, err := python.Output()
	if err != nil {
		t.Fatal(err)
	}
	var found [][][2]any
	if err := json.Unmarshal(output, &found); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(found, want) {
		t.Fatal("go_stable.py sorts otherwise than Go")
	}
}
