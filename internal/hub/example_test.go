package hub_test

import (
	"context"
	"crypto/sha1"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/quire-llm/quire/internal/hub"
	"github.com/quire-llm/quire/internal/hub/hubbar"
)

// The whole of a pull, as a command does it. A real one takes hub.EnvFromOS(), a context that ends with an interrupt,
// and maps the errors of the package to exit statuses.
func ExamplePrepare() {
	env, done := exampleHub()
	defer done()

	progress := hubbar.New(os.Stderr, hubbar.Options{Quiet: true})
	defer progress.Close()
	pull, err := hub.Prepare(context.Background(), env, "acme/tiny", hub.Options{Observer: progress.Observer()})
	if err != nil {
		fmt.Println(err, hub.Hint(err))
		return
	}
	for _, f := range pull.Files { // with --dry-run: pull.WriteTable(os.Stdout), and no Run
		fmt.Println(f.Name, hub.SizeString(f.Bytes), f.Present())
	}
	dir, err := pull.Run(context.Background())
	if err != nil {
		fmt.Println(err, hub.Hint(err))
		return
	}
	again, err := hub.Find(env, "acme/tiny", "")
	fmt.Println(filepath.Base(dir), again == dir, err)

	_, err = hub.Find(env, "acme/tinny", "")
	fmt.Println(hub.Hint(err))
	// Output:
	// config.json 2 B false
	// tokenizer.json 4 B false
	// 0123456789abcdef0123456789abcdef01234567 true <nil>
	// the cache has acme/tiny; fetch it with: quire pull acme/tinny
}

// exampleHub is a model hub with one tiny model, and an empty cache.
func exampleHub() (hub.Env, func()) {
	files := map[string]string{"config.json": "{}", "tokenizer.json": "null", "README.md": "# Tiny"}
	var siblings []string
	for name, content := range files {
		siblings = append(siblings, fmt.Sprintf(`{"rfilename":%q,"size":%d,"blobId":"%x"}`, name, len(content),
			sha1.Sum(fmt.Appendf(nil, "blob %d\x00%s", len(content), content))))
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/api/") {
			fmt.Fprintf(w, `{"sha":"0123456789abcdef0123456789abcdef01234567","siblings":[%s]}`, strings.Join(siblings, ","))
			return
		}
		fmt.Fprint(w, files[path.Base(r.URL.Path)])
	}))
	cache, err := os.MkdirTemp("", "hub")
	if err != nil {
		panic(err)
	}
	return hub.Env{CacheDir: cache, Endpoint: server.URL}, func() { server.Close(); os.RemoveAll(cache) }
}
