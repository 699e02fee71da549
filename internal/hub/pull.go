package hub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"
)

// Options say what to pull and how. The zero value pulls what Quire needs of the main branch into the cache.
type Options struct {
	Revision     string            // branch, tag, commit or "refs/pr/N"; "" means main
	LocalDir     string            // a folder for plain files, instead of the cache
	All          bool              // every file of the repository, whatever it is
	Verify       bool              // read what the cache has already, instead of trusting its size
	Parallel     int               // files at once; 0 means 4
	Retries      int               // failures in a row to bear, for each file; 0 means 8, negative none
	StallTimeout time.Duration     // a connection that brings nothing for so long is given up; 0 means 30 s
	Observer     Observer          // told about progress
	Transport    http.RoundTripper // nil means one of the pull's own, with the proxies of the environment

	Clock     Clock                           // nil means the system's
	Jitter    func() float64                  // in [0, 1), for the pauses before retries; nil means random
	FreeBytes func(dir string) (int64, error) // of the disk of an existing folder; nil asks the system
}

func (o Options) withDefaults() Options {
	o.Revision = cmp.Or(o.Revision, "main")
	o.StallTimeout = cmp.Or(o.StallTimeout, 30*time.Second)
	o.Parallel = max(cmp.Or(o.Parallel, 4), 1)
	o.Retries = max(cmp.Or(o.Retries, 8), 0)
	if o.Clock == nil {
		o.Clock = systemClock{}
	}
	if o.Jitter == nil {
		o.Jitter = rand.Float64
	}
	if o.FreeBytes == nil {
		o.FreeBytes = freeBytes
	}
	return o
}

// File is one file of a pull.
type File struct {
	Name      string // slash-separated, relative to Pull.Dir
	Bytes     int64
	HaveBytes int64 // that were here before the pull: all, the start that an earlier pull left, or none

	digest digest
	whole  bool // all of it was here, also when it has no bytes
}

// Present reports whether there is nothing to fetch.
func (f File) Present() bool { return f.whole }

// Pull is one model at one commit, and what is to be fetched of it.
type Pull struct {
	Model    string
	Revision string
	Commit   string
	Dir      string // where the files are, or will be: a snapshot in the cache, or Options.LocalDir
	Files    []File // sorted by name

	client *client
	store  store
	locks  *locker
}

// Prepare asks the server what model consists of and looks what of that is here. It writes nothing, so it is also the
// dry run; with Options.LocalDir or Verify it reads the files that are here. All fields of an error are in its chain:
// *StatusError, *TransferError, *WeightsError, and the sentinels; Hint says what to do.
func Prepare(ctx context.Context, env Env, model string, opt Options) (*Pull, error) {
	p, err := prepare(ctx, env, model, opt.withDefaults())
	if err != nil {
		return nil, fmt.Errorf("hub: listing the files of %q at %q: %w", model, cmp.Or(opt.Revision, "main"), err)
	}
	return p, nil
}

func prepare(ctx context.Context, env Env, model string, opt Options) (*Pull, error) {
	if err := errors.Join(checkModel(model), checkRevision(opt.Revision)); err != nil {
		return nil, err
	}
	if env.Offline {
		return nil, offline(env, model, opt.Revision)
	}
	if env.CacheDir == "" && opt.LocalDir == "" {
		return nil, errNoCache()
	}
	client, err := newClient(env, model, opt)
	if err != nil {
		return nil, err
	}
	defer client.closeIdle()
	listing, err := client.list(ctx)
	if err != nil {
		return nil, err
	}
	p := &Pull{Model: model, Revision: opt.Revision, Commit: listing.commit, Files: listing.files,
		client: client, locks: &locker{opt.Clock, tryLock}}
	if opt.LocalDir != "" {
		p.store = &folderStore{folder: filepath.Clean(opt.LocalDir)}
	} else {
		p.store = &cacheStore{cacheDir: env.CacheDir, model: model, revision: opt.Revision, commit: listing.commit,
			verify: opt.Verify, symlink: os.Symlink}
	}
	p.Dir = p.store.dir()
	for i := range p.Files {
		f := &p.Files[i]
		if f.whole, err = p.store.has(ctx, f); err != nil {
			return nil, err
		}
		if f.whole {
			f.HaveBytes = f.Bytes
		} else if info, err := os.Stat(p.store.partial(f)); err == nil && info.Size() <= f.Bytes {
			f.HaveBytes = info.Size()
		}
	}
	return p, nil
}

// offline says that the network is forbidden, and where the model is if it is here.
func offline(env Env, model, revision string) error {
	err := fmt.Errorf("%w: HF_HUB_OFFLINE is set", ErrOffline)
	if dir, findErr := Find(env, model, revision); findErr == nil {
		return withHint(err, "the cache has the model at %s; unset HF_HUB_OFFLINE to look for a newer one", dir)
	}
	return withHint(err, "the cache does not have the model: unset HF_HUB_OFFLINE, or copy the cache from another machine")
}

// TotalBytes is the size of all files.
func (p *Pull) TotalBytes() int64 {
	var sum int64
	for _, f := range p.Files {
		sum += f.Bytes
	}
	return sum
}

// MissingBytes is how much there is to fetch.
func (p *Pull) MissingBytes() int64 {
	sum := p.TotalBytes()
	for _, f := range p.Files {
		sum -= f.HaveBytes
	}
	return sum
}

// WriteTable writes what Run would do: a line for each file, and the sum.
func (p *Pull) WriteTable(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "FILE\tSIZE\tSTATE")
	for _, f := range p.Files {
		state := "to fetch"
		switch {
		case f.whole:
			state = "present"
		case f.HaveBytes > 0:
			state = "to resume at " + SizeString(f.HaveBytes)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", f.Name, SizeString(f.Bytes), state)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	free := ""
	if bytes, err := p.client.opt.FreeBytes(existing(p.Dir)); err == nil {
		free = fmt.Sprintf(", %s free", SizeString(bytes))
	}
	_, err := fmt.Fprintf(w, "%d files, %s, %s (%d bytes) to fetch into %s%s\n", len(p.Files),
		SizeString(p.TotalBytes()), SizeString(p.MissingBytes()), p.MissingBytes(), p.Dir, free)
	return err
}

// Run fetches what is missing and returns Dir. After an error or a cancellation everything fetched so far is kept, and
// another pull goes on from there. Run may be called once.
func (p *Pull) Run(ctx context.Context) (dir string, err error) {
	defer p.client.closeIdle()
	if err := p.checkSpace(); err != nil {
		return "", fmt.Errorf("hub: pulling %q: %w", p.Model, err)
	}
	p.client.opt.Observer.start(p)
	var files []*File
	for i := range p.Files {
		files = append(files, &p.Files[i])
	}
	// The largest first, so that none is left alone at the end.
	slices.SortStableFunc(files, func(a, b *File) int { return cmp.Compare(b.Bytes, a.Bytes) })
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(p.client.opt.Parallel)
	for _, f := range files {
		group.Go(func() error {
			if groupCtx.Err() != nil {
				return context.Cause(groupCtx)
			}
			err := p.place(groupCtx, f)
			if errors.Is(err, syscall.ENOSPC) {
				free, _ := p.client.opt.FreeBytes(existing(p.Dir))
				err = &SpaceError{Dir: p.Dir, NeededBytes: max(f.Bytes, free+1), FreeBytes: free}
			}
			if err != nil {
				return fmt.Errorf("hub: pulling %q: file %q: %w", p.Model, f.Name, err)
			}
			return nil
		})
	}
	err = group.Wait()
	if cause := context.Cause(ctx); cause != nil && err != nil {
		return "", withHint(fmt.Errorf("hub: pulling %q: %w", p.Model, cause), "pull again, it goes on where it stopped")
	}
	if err != nil {
		return "", err
	}
	if err := p.store.finish(); err != nil {
		return "", fmt.Errorf("hub: pulling %q: %w", p.Model, err)
	}
	return p.Dir, nil
}

// checkSpace asks the disk for room before anything is written. Where it does not know, a full disk is noticed later.
func (p *Pull) checkSpace() error {
	free, err := p.client.opt.FreeBytes(existing(p.Dir))
	if needed := p.MissingBytes(); err == nil && needed > free {
		return &SpaceError{Dir: p.Dir, NeededBytes: needed, FreeBytes: free}
	}
	return nil
}
