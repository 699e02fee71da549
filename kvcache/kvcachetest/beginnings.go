package kvcachetest

// Beginnings are texts of up to tokens tokens that many of the kit's prompts begin with. They are for strategies that must be
// told what to look for; others have no use for them.
func Beginnings(tokens int) [][]int32 {
	var all [][]int32
	for number := range 200 {
		all = append(all, runTokens(number, tokens))
	}
	for _, length := range []int{16, 32, 64} { // the random part's, for each size of a block
		for first := range pieces {
			for second := range pieces {
				var text []int32
				for i := range min(tokens, 2*length) {
					text = append(text, piece([]int{first, second}[i/length], i%length))
				}
				all = append(all, text)
			}
		}
	}
	return all
}
