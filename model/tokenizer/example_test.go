package tokenizer_test

import (
	"fmt"
	"os"

	"github.com/quire-llm/quire/model/tokenizer"
)

func Example() {
	t, err := tokenizer.Load(os.DirFS("testdata"))
	if err != nil {
		fmt.Println(err)
		return
	}
	ids := t.Encode(nil, "<|im_start|>the café")
	fmt.Println(ids)
	fmt.Println(t.Decode(ids))

	stream := t.NewStream(tokenizer.DecodeOptions{SkipSpecial: true})
	for _, id := range ids {
		fmt.Printf("%q ", stream.Next(id))
	}
	fmt.Printf("%q\n", stream.Flush())
	// Output:
	// [2040 480 605 69 127 102]
	// <|im_start|>the café
	// "" "the" " ca" "f" "" "é" ""
}
