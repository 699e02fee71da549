// Package hub owns the Hugging Face cache on this machine: where models lie, and how they get there.
//
// The layout and the locks are those of huggingface_hub, so both use what the other has fetched. Modes are left to the
// umask: a cache may be shared.
//
//	models--owner--name/blobs/DIGEST              the content, named by its SHA-256 (LFS) or git blob SHA-1
//	models--owner--name/blobs/DIGEST.incomplete   the first bytes of a content, to be resumed
//	models--owner--name/snapshots/COMMIT/FILE     a relative link into blobs (a copy where links do not work)
//	models--owner--name/refs/REVISION             the commit that the revision stood for
//	.locks/models--owner--name/DIGEST.lock        held (flock) by whoever writes DIGEST.incomplete
//
// A file gets its name only when its size and digest are those that the listing gave, and by a rename, so a reader
// never sees half a file. Two pulls of one model, in one process or two, take turns file by file through the lock file;
// where the file system has no locks each writes a partial of its own, which is not resumed, and the last rename wins.
//
// What a server says is not trusted: names that would leave the folder are refused, and so are contents that differ
// from their digest. The listing, which says what names and digests there are, is protected by TLS alone.
package hub
