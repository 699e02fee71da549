package hub

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
)

const (
	listingBytes = 64 << 20 // more than any real listing
	fileBytes    = 1 << 42  // more than any real file, and the sum over all files of such a listing fits an int64
)

// listing is the part of a repository that a pull is about.
type listing struct {
	commit string
	files  []File // sorted by name
}

// list asks the server what the repository holds and keeps what Quire needs.
func (c *client) list(ctx context.Context) (listing, error) {
	address := fmt.Sprintf("%s/api/models/%s/revision/%s?blobs=true",
		c.env.endpoint(), c.model, url.PathEscape(c.opt.Revision))
	var answer repository
	err := c.retry(ctx, "", func(ctx context.Context) (int64, error) { return 0, c.getJSON(ctx, address, &answer) })
	if err != nil {
		return listing{}, err
	}
	return answer.choose(c.opt)
}

// getJSON reads one JSON document, giving up when nothing arrives for too long. A document that is cut short is a
// *TransferError.
func (c *client) getJSON(ctx context.Context, address string, into any) error {
	ctx, dog := watch(ctx, c.opt.Clock, c.opt.StallTimeout)
	defer dog.stop()
	response, err := c.get(ctx, address, http.Header{"Accept": {"application/json"}})
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(&feedingReader{io.LimitReader(response.Body, listingBytes), dog})
	if err != nil {
		return c.broken(ctx, response.Request.URL, err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return &TransferError{URL: plainURL(response.Request.URL), Err: fmt.Errorf("reading the listing: %w", err)}
	}
	return nil
}

// feedingReader feeds the watchdog with every read.
type feedingReader struct {
	io.Reader
	dog *watchdog
}

func (r *feedingReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.dog.feed()
	return n, err
}

// repository is the server's answer to /api/models/{model}/revision/{revision}?blobs=true.
type repository struct {
	SHA      string `json:"sha"`
	Siblings []struct {
		Name   string `json:"rfilename"`
		Size   *int64 `json:"size"`
		BlobID string `json:"blobId"`
		LFS    *struct {
			SHA256 string `json:"sha256"`
			Size   *int64 `json:"size"`
		} `json:"lfs"`
	} `json:"siblings"`
}

func (r *repository) choose(opt Options) (listing, error) {
	if !commitName.MatchString(r.SHA) {
		return listing{}, untrusted("the listing names no commit but %q", printable(r.SHA, 80))
	}
	if commitName.MatchString(opt.Revision) && opt.Revision != r.SHA {
		return listing{}, untrusted("the listing is of commit %s, not of %s", r.SHA, opt.Revision)
	}
	chosen := listing{commit: r.SHA}
	var weights []string // files that hold weights in a format that Quire does not read
	safetensors := false
	for _, s := range r.Siblings {
		wanted := opt.All || needed(s.Name)
		if wanted || escapes(s.Name) {
			if err := checkFile(s.Name); err != nil {
				return listing{}, err
			}
		}
		if otherWeights(s.Name) {
			weights = append(weights, s.Name)
		}
		if !wanted {
			continue
		}
		safetensors = safetensors || path.Ext(s.Name) == ".safetensors"
		f := File{Name: s.Name, digest: digest(s.BlobID)}
		size := s.Size
		if s.LFS != nil {
			f.digest, size = digest(s.LFS.SHA256), s.LFS.Size
		}
		if !f.digest.valid() || size == nil || *size < 0 || *size > fileBytes {
			return listing{}, untrusted("the listing has no usable size and digest of %q", s.Name)
		}
		f.Bytes = *size
		chosen.files = append(chosen.files, f)
	}
	slices.SortFunc(chosen.files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	for i := range chosen.files {
		if i > 0 && chosen.files[i].Name == chosen.files[i-1].Name {
			return listing{}, untrusted("the listing has %q twice", chosen.files[i].Name)
		}
	}
	switch {
	case !opt.All && !safetensors && len(weights) > 0:
		return listing{}, &WeightsError{Found: weights}
	case len(chosen.files) == 0:
		return listing{}, withHint(fmt.Errorf("files of a model: %w", ErrNotFound),
			"the repository has no config, tokenizer or weights: is it a model's?")
	}
	return chosen, nil
}

func untrusted(format string, args ...any) error {
	return withHint(fmt.Errorf(format, args...),
		"the server's answer is not that of a model hub: check HF_ENDPOINT and proxies")
}

// needed reports whether Quire reads a file: those at the top of the repository that describe the model and its
// tokenizer, and the weights. special_tokens_map and added_tokens are for other readers of the same snapshot.
func needed(name string) bool {
	patterns := []string{
		"*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json",
		"tokenizer*.json", "vocab.json", "vocab.txt", "merges.txt", "chat_template*",
		"special_tokens_map.json", "added_tokens.json",
	}
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		ok, _ := path.Match(pattern, name) // * does not match a slash
		return ok
	})
}

// otherWeights reports whether a file holds weights that Quire does not read, mostly because reading a pickle runs
// whatever code it has.
func otherWeights(name string) bool {
	switch strings.ToLower(path.Ext(name)) {
	case ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".msgpack", ".gguf", ".ggml", ".onnx":
		return true
	}
	return false
}

// WeightsError is a repository whose weights are all in formats that Quire does not read. It matches ErrWeights.
type WeightsError struct{ Found []string }

// Error is the cause in one line.
func (e *WeightsError) Error() string {
	var names []string
	for _, name := range e.Found[:min(3, len(e.Found))] {
		names = append(names, printable(name, 100))
	}
	if more := len(e.Found) - len(names); more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return fmt.Sprintf("%v, only %s", ErrWeights, strings.Join(names, ", "))
}

// Is matches ErrWeights.
func (e *WeightsError) Is(target error) bool { return target == ErrWeights }

// Hint says where safetensors come from.
func (e *WeightsError) Hint() string {
	return "Quire reads safetensors only (a pickle can run code): look for a revision or another repository that has them, " +
		"or convert on a machine you can lose: transformers' save_pretrained writes safetensors"
}
