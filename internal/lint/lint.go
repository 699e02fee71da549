// Package lint holds the repository's own rules as tests: who may import whom, and what may stand in a source file.
package lint
