package kvcache

// Key names the content of a block or chunk: a SHA-256 chain over format version, geometry identity, tenant salt, parent
// key and token ids. Token ids are compared as well on a hit.
type Key [32]byte
