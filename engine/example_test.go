package engine_test

import (
	"context"
	"fmt"
	"log"

	"github.com/quire-llm/quire/engine"
	"github.com/quire-llm/quire/model"
	"github.com/quire-llm/quire/model/tiny"
)

func ExampleOpen() {
	ctx := context.Background()
	e, err := engine.Open(ctx, engine.Options{Model: "tiny", Providers: []model.Provider{tiny.Provider{}}})
	if err != nil {
		log.Fatal(err)
	}
	defer e.Close()

	question := "Rosa has 94 balls. Then Rosa finds 27 more balls. How many balls does Rosa have now?"
	request := engine.Request{Messages: []engine.Message{{Role: "user", Content: question}}}
	for token, err := range e.Generate(ctx, request) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Print(token.Text)
	}
	// Output:
	// 94 + 27 = 121.
	// #### 121
}
