package build

import "regexp"

var entryText = regexp.MustCompile(`\.entry\s+(\w+)\s*\(\s*\.param\s+\.align\s+\d+\s+\.b8\s+\w+\[(\d+)\]\s*\)`)

// Entries are the entry points of PTX that take one struct, and the size of it.
func Entries(ptx []byte) map[string]int {
	entries := map[string]int{}
	for _, m := range entryText.FindAllSubmatch(ptx, -1) {
		entries[string(m[1])] = number(string(m[2]))
	}
	return entries
}
