package systemprompt_test

import (
	"context"
	"fmt"
	"log"

	"github.com/quire-llm/quire/engine"
	"github.com/quire-llm/quire/kernels"
	"github.com/quire-llm/quire/kvcache"
	"github.com/quire-llm/quire/model"
	"github.com/quire-llm/quire/model/tiny"
	"github.com/quire-llm/quire/model/tokenizer"

	"github.com/quire-llm/quire/examples/systemprompt"
)

// beginning is what all requests of this application begin with, as the model's chat template lays it out.
const beginning = `<|im_start|>system
Answer from the documents.<|im_end|>
<|im_start|>user
Nina put 19 tickets into the white jar.
Inside the brown tin there are 70 stamps.
The red crate holds 21 cookies.
Finn put 47 apples into the pink drawer.
Inside the purple tin there are 18 marbles.
Inside the green shelf there are 73 keys.
Aida put 38 stones into the purple bag.
Inside the orange chest there are 25 coins.
`

// ask makes a request of the beginning and a question about two places.
func ask(one, other string) engine.Request {
	return engine.Request{
		Prompt: beginning + "How many things are in the " + one + " and the " + other + " together?<|im_end|>\n<|im_start|>assistant\n",
	}
}

// strategy keeps the beginning. Its token ids come from the tokenizer that the engine will use.
func strategy() (kvcache.Strategy, error) {
	t, err := tokenizer.Load(tiny.Files())
	if err != nil {
		return nil, err
	}
	return systemprompt.SystemPrompt{Prompts: [][]int32{t.Encode(nil, beginning)}}, nil
}

func open(s kvcache.Strategy) (*engine.Engine, error) {
	return engine.Open(context.Background(), engine.Options{
		Model: tiny.Name, Providers: []model.Provider{tiny.Provider{}},
		DeviceOptions: kernels.Options{Device: "cpu"},
		Cache:         s, CheckInvariants: true,
	})
}

// The first request computes its whole prompt, the next two what comes after the beginning. The last one is another tenant's:
// it shares nothing with them.
func Example() {
	s, err := strategy()
	if err != nil {
		log.Fatal(err)
	}
	e, err := open(s)
	if err != nil {
		log.Fatal(err)
	}
	defer e.Close()

	requests := []engine.Request{
		ask("red crate", "pink drawer"),
		ask("white jar", "brown tin"),
		ask("green shelf", "orange chest"),
		ask("red crate", "purple bag"),
	}
	requests[3].Salt = "another tenant"
	for _, r := range requests {
		var result *engine.Result
		for token, err := range e.Generate(context.Background(), r) {
			if err != nil {
				log.Fatal(err)
			}
			result = token.Result
		}
		fmt.Println(result.Text)
		fmt.Printf("prompt: %d tokens, of which %d were found\n\n", result.Usage.PromptTokens, result.Usage.CachedTokens)
	}
	// Output:
	// The red crate holds 21 cookies. The pink drawer holds 47 apples. 21 + 47 = 68.
	// #### 68
	// prompt: 118 tokens, of which 0 were found
	//
	// The white jar holds 19 tickets. The brown tin holds 70 stamps. 19 + 70 = 89.
	// #### 89
	// prompt: 118 tokens, of which 96 were found
	//
	// The green shelf holds 73 keys. The orange chest holds 25 coins. 73 + 25 = 98.
	// #### 98
	// prompt: 118 tokens, of which 96 were found
	//
	// The red crate holds 21 cookies. The purple bag holds 38 stones. 21 + 38 = 59.
	// #### 59
	// prompt: 118 tokens, of which 0 were found
}
