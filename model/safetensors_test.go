package model

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// safetensorsFile is a file of this header and a buffer of n bytes.
func safetensorsFile(header string, n int) []byte {
	file := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(file, header...), make([]byte, n)...)
}

func TestParseSafetensors(t *testing.T) {
	for _, tt := range []struct {
		name, header string
		buffer       int
		want         []string // name dtype shape bytes
	}{
		{"no tensors", `{}`, 0, nil},
		{"metadata only", `{"__metadata__":{"format":"pt"}}`, 0, nil},
		{"padded with spaces", `{"a":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]}}    `, 12, []string{"a BF16 [2 3] 12"}},
		{"any order", `{"b":{"data_offsets":[4,8],"dtype":"F32","shape":[1]},"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}`, 8, []string{"a U8 [4] 4", "b F32 [1] 4"}},
		{"scalar", `{"a":{"dtype":"I64","shape":[],"data_offsets":[0,8]}}`, 8, []string{"a I64 [] 8"}},
		{"zero-size between others", `{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"z":{"dtype":"F32","shape":[3,0],"data_offsets":[4,4]},"b":{"dtype":"U8","shape":[1],"data_offsets":[4,5]}}`, 5, []string{"a U8 [4] 4", "z F32 [3 0] 0", "b U8 [1] 1"}},
		{"zero-size with huge other dimensions", `{"z":{"dtype":"F32","shape":[4611686018427387904,4611686018427387904,0],"data_offsets":[0,0]}}`, 0, []string{"z F32 [4611686018427387904 4611686018427387904 0] 0"}},
		{"less than a byte an element", `{"a":{"dtype":"F4","shape":[4],"data_offsets":[0,2]}}`, 2, []string{"a F4 [4] 2"}},
		{"escaped name", `{"\u00e9\n":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1, []string{"é\n U8 [1] 1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := safetensorsFile(tt.header, tt.buffer)
			tensors, err := parseSafetensors(file)
			require.NoError(t, err)
			var got []string
			for _, x := range tensors {
				got = append(got, fmt.Sprintf("%s %s %v %d", x.Name, x.DType, x.Shape, len(x.Data)))
				require.Equal(t, len(x.Data), cap(x.Data), "an append would run into the next tensor")
			}
			require.Equal(t, tt.want, got)
		})
	}
}

func TestParseSafetensorsRefuses(t *testing.T) {
	entry := func(name, dtype, shape, offsets string) string {
		return fmt.Sprintf(`%q:{"dtype":%q,"shape":%s,"data_offsets":%s}`, name, dtype, shape, offsets)
	}
	one := func(dtype, shape, offsets string) string { return "{" + entry("a", dtype, shape, offsets) + "}" }
	two := func(first, second string) string {
		return "{" + entry("a", "U8", "[4]", first) + "," + entry("b", "U8", "[4]", second) + "}"
	}
	length := func(n uint64, rest string) []byte { return append(binary.LittleEndian.AppendUint64(nil, n), rest...) }
	for _, tt := range []struct {
		name string
		file []byte
		want string
	}{
		{"empty", nil, "too few"},
		{"7 bytes", make([]byte, 7), "too few"},
		{"git-lfs pointer", []byte("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"), "git-lfs"},
		{"header length 0", length(0, "{}"), "does not begin with {"},
		{"header over 100 MB", length(100_000_001, "{}"), "over the format's limit"},
		{"header length of all ones", length(math.MaxUint64, "{}"), "over the format's limit"},
		{"header past the end", length(3, "{}"), "truncated"},
		{"header that is a list", safetensorsFile(`[]`, 0), "does not begin with {"},
		{"space before the header", safetensorsFile(` {}`, 0), "does not begin with {"},
		{"not JSON", safetensorsFile(`{"a"}`, 0), "not valid JSON"},
		{"two values", safetensorsFile(`{}{}`, 0), "not valid JSON"},
		{"trailing comma", safetensorsFile(`{"a":1,}`, 0), "not valid JSON"},
		{"zero bytes after it", safetensorsFile("{}\x00\x00", 0), "not valid JSON"},
		{"not UTF-8", safetensorsFile("{\"\xff\":1}", 0), "UTF-8"},
		{"deep nesting", safetensorsFile(`{"a":`+strings.Repeat("[", 100_000)+strings.Repeat("]", 100_000)+"}", 0), "JSON"},
		{"nesting where a number belongs", safetensorsFile(one("U8", "[[4]]", "[0,4]"), 4), "whole number"},
		{"tensor twice", safetensorsFile("{"+entry("a", "U8", "[4]", "[0,4]")+","+entry("a", "U8", "[4]", "[4,8]")+"}", 8), `"a" comes twice`},
		{"tensor twice, once escaped", safetensorsFile(`{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"\u0061":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}}`, 8), `"a" comes twice`},
		{"key twice in a tensor", safetensorsFile(`{"a":{"dtype":"U8","dtype":"U8","shape":[4],"data_offsets":[0,4]}}`, 4), "twice"},
		{"metadata twice", safetensorsFile(`{"__metadata__":{},"__metadata__":{}}`, 0), "twice"},
		{"metadata with a number", safetensorsFile(`{"__metadata__":{"x":1}}`, 0), "want a string"},
		{"metadata that is a string", safetensorsFile(`{"__metadata__":"x"}`, 0), "want {"},
		{"tensor that is null", safetensorsFile(`{"a":null}`, 0), "want {"},
		{"missing dtype", safetensorsFile(`{"a":{"shape":[4],"data_offsets":[0,4]}}`, 4), "missing"},
		{"missing shape", safetensorsFile(`{"a":{"dtype":"U8","data_offsets":[0,4]}}`, 4), "missing"},
		{"missing offsets", safetensorsFile(`{"a":{"dtype":"U8","shape":[4]}}`, 4), "missing"},
		{"unknown key", safetensorsFile(`{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4],"scale":1}}`, 4), `unknown key "scale"`},
		{"unknown dtype", safetensorsFile(one("BF15", "[4]", "[0,4]"), 4), `unknown dtype "BF15"`},
		{"dtype that is a number", safetensorsFile(`{"a":{"dtype":1,"shape":[4],"data_offsets":[0,4]}}`, 4), "want a string"},
		{"negative dimension", safetensorsFile(one("U8", "[-4]", "[0,4]"), 4), "whole number"},
		{"fractional dimension", safetensorsFile(one("U8", "[4.0]", "[0,4]"), 4), "whole number"},
		{"dimension beyond uint64", safetensorsFile(one("U8", "[18446744073709551616]", "[0,4]"), 4), "whole number"},
		{"dimension that is a string", safetensorsFile(one("U8", `["4"]`, "[0,4]"), 4), "whole number"},
		{"shape that is a number", safetensorsFile(one("U8", "4", "[0,4]"), 4), "want ["},
		{"product overflows to the right size", safetensorsFile(one("U8", "[4294967297,4294967296]", "[0,4]"), 4), "overflows"},
		{"product overflows to 0", safetensorsFile(one("F32", "[4294967296,4294967296]", "[0,0]"), 0), "overflows"},
		{"product times size overflows", safetensorsFile(one("F32", "[4611686018427387905]", "[0,4]"), 4), "overflows"},
		{"half a byte", safetensorsFile(one("F4", "[3]", "[0,2]"), 2), "whole bytes"},
		{"one offset", safetensorsFile(one("U8", "[4]", "[4]"), 4), "want 2"},
		{"three offsets", safetensorsFile(one("U8", "[4]", "[0,4,8]"), 4), "want 2"},
		{"offsets backwards", safetensorsFile(one("U8", "[4]", "[4,0]"), 4), "backwards"},
		{"offset past the end", safetensorsFile(one("U8", "[5]", "[0,5]"), 4), "truncated"},
		{"offset at the end of int64", safetensorsFile(one("U8", "[9223372036854775807]", "[0,9223372036854775807]"), 4), "truncated"},
		{"begin past the end", safetensorsFile(one("U8", "[4]", "[9223372036854775803,9223372036854775807]"), 4), "truncated"},
		{"too few bytes for the shape", safetensorsFile(one("F32", "[2]", "[0,4]"), 4), "needs 8"},
		{"too many bytes for the shape", safetensorsFile(one("U8", "[2]", "[0,4]"), 4), "needs 2"},
		{"overlap", safetensorsFile(two("[0,4]", "[3,7]"), 7), "inside the tensor before"},
		{"same bytes twice", safetensorsFile(two("[0,4]", "[0,4]"), 4), "inside the tensor before"},
		{"hole", safetensorsFile(two("[0,4]", "[5,9]"), 9), "hole"},
		{"hole at the start", safetensorsFile(one("U8", "[4]", "[1,5]"), 5), "hole"},
		{"bytes after the last tensor", safetensorsFile(one("U8", "[4]", "[0,4]"), 5), "1 bytes follow"},
		{"zero-size in a hole", safetensorsFile(one("U8", "[0]", "[1,1]"), 1), "hole"},
		{"zero-size with bytes", safetensorsFile(one("U8", "[0]", "[0,1]"), 1), "needs 0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parseSafetensors(tt.file)
			require.ErrorContains(t, err, tt.want)
			require.NotContains(t, err.Error(), "\n")
		})
	}
}

func TestParseSafetensorsTruncated(t *testing.T) {
	file, err := os.ReadFile("testdata/goldens/qwen3-tied-gqa2/model.safetensors")
	require.NoError(t, err)
	for _, n := range []int{0, 4, 8, 1000, 2000, 2496, 5000, len(file) - 1} {
		_, err := parseSafetensors(file[:n])
		require.ErrorContains(t, err, "download is not complete", "of %d bytes", n)
	}
}

func TestWriteSafetensorsRoundTrip(t *testing.T) {
	seed := uint64(20)
	r := rand.New(rand.NewPCG(seed, 0))
	var want []Tensor
	for i := range 20 {
		x := Tensor{Name: fmt.Sprintf("t<%d>\"\n", i), DType: []DType{BF16, F16, F32, "U8"}[i%4], Shape: make([]int, i%4)}
		n := x.DType.bits() / 8
		for d := range x.Shape {
			x.Shape[d] = r.IntN(4)
			n *= x.Shape[d]
		}
		x.Data = make([]byte, n)
		for j := range x.Data {
			x.Data[j] = byte(r.Uint32())
		}
		want = append(want, x)
	}
	var file bytes.Buffer
	require.NoError(t, WriteSafetensors(&file, want))
	got, err := parseSafetensors(file.Bytes())
	require.NoError(t, err, "seed %d", seed)
	byName := map[string]Tensor{}
	for _, x := range got {
		byName[x.Name] = x
	}
	require.Len(t, byName, len(want))
	for _, x := range want {
		require.Equal(t, x, byName[x.Name])
	}
	require.Zero(t, binary.LittleEndian.Uint64(file.Bytes())%8, "header is not padded")

	for name, bad := range map[string][]Tensor{
		"wrong length": {{Name: "a", DType: BF16, Shape: []int{2}, Data: make([]byte, 3)}},
		"no dtype":     {{Name: "a", Shape: []int{2}}},
		"twice":        {want[3], want[3]},
		"reserved":     {{Name: "__metadata__", DType: "U8", Shape: []int{1}, Data: []byte{1}}},
		"negative":     {{Name: "a", DType: "U8", Shape: []int{-1}}},
	} {
		require.ErrorContains(t, WriteSafetensors(&file, bad), "writing safetensors", name)
	}
}

// TestHeaderMemory: the memory that a header costs follows its own size, whatever sizes it claims.
func TestHeaderMemory(t *testing.T) {
	var b strings.Builder
	b.WriteString("{")
	for i := range 5000 {
		fmt.Fprintf(&b, `"t%d":{"dtype":"F32","shape":[1099511627776,1024],"data_offsets":[0,4503599627370496]},`, i)
	}
	b.WriteString(`"end":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}`)
	file := safetensorsFile(b.String(), 0)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := parseSafetensors(file)
	runtime.ReadMemStats(&after)
	require.ErrorContains(t, err, "truncated")
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(40*len(file)))
}

func FuzzSafetensorsHeader(f *testing.F) {
	for _, dir := range goldens(f) {
		files, err := filepath.Glob(filepath.Join(dir, "*.safetensors"))
		require.NoError(f, err)
		file, err := os.ReadFile(files[0])
		require.NoError(f, err)
		n := 8 + int(binary.LittleEndian.Uint64(file))
		f.Add(file[8:n], len(file)-n)
	}
	f.Add([]byte(`{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"b":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}}`), 1)
	f.Fuzz(func(t *testing.T, header []byte, buffer int) {
		file := safetensorsFile(string(header), min(max(buffer, 0), 1<<20))
		tensors, err := parseSafetensors(file)
		if err != nil {
			require.Nil(t, tensors)
			return
		}
		total, names := 0, map[string]bool{}
		for _, x := range tensors {
			bits := x.DType.bits()
			for _, d := range x.Shape {
				bits *= d
			}
			require.Equal(t, bits, 8*len(x.Data))
			require.False(t, names[x.Name])
			names[x.Name] = true
			total += len(x.Data)
		}
		require.Equal(t, len(file)-8-len(header), total, "the tensors do not cover the buffer")

		var again bytes.Buffer
		if err := WriteSafetensors(&again, tensors); err == nil {
			back, err := parseSafetensors(again.Bytes())
			require.NoError(t, err)
			require.Len(t, back, len(tensors))
		}
	})
}
