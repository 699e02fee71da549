package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/quire-llm/quire/internal/cli"
	"github.com/quire-llm/quire/model/chat"
)

// question is one of a file, with its answer, which ends in "#### N".
type question struct {
	Documents []string
	Question  string
	Answer    string
}

// set is a part of the questions whose accuracy is told apart.
type set struct {
	Name      string
	Questions []question
	Examples  []question // for questions without documents: worked examples, of which each prompt has some
}

// The arithmetic set's prompts begin with the first example, which is the head. So many others follow, drawn for each prompt.
const (
	exampleCount = 17
	examplesEach = 4
	manyMembers  = 32 // documents in the smallest of the long prompts
)

// findData fills in the folder with the questions and the models that are asked.
func (s *settings) findData() error {
	if s.data == "" {
		dir, err := os.Getwd()
		if err != nil {
			return fmt.Errorf("quality: looking for model/testdata: %w", err)
		}
		for s.data == "" {
			here := filepath.Join(dir, "model", "testdata")
			if _, err := os.Stat(filepath.Join(here, "evals")); err == nil {
				s.data = here
			}
			if parent := filepath.Dir(dir); parent != dir {
				dir = parent
				continue
			}
			break
		}
		if s.data == "" {
			return &cli.Problem{
				Err:  fmt.Errorf("quality: no model/testdata/evals in this folder or one above: %w", fs.ErrNotExist),
				Hint: "run it in the repository, or name the folder with --data", Exit: cli.NotFound,
			}
		}
	}
	if len(s.models) == 0 {
		s.models = []string{"tiny", filepath.Join(s.data, "tiny-qwen3-plain")}
	}
	return nil
}

// readSets reads all questions, the first most of each set; 0 is all.
func readSets(data string, most int) ([]set, error) {
	documents, err := readQuestions(filepath.Join(data, "evals", "documents_test.jsonl"))
	if err != nil {
		return nil, err
	}
	arithmetic, err := readQuestions(filepath.Join(data, "evals", "arithmetic_test.jsonl"))
	if err != nil {
		return nil, err
	}
	if len(arithmetic) <= exampleCount {
		return nil, fmt.Errorf("quality: %d arithmetic questions in %q, want more than %d", len(arithmetic), data, exampleCount)
	}
	few, many := set{Name: "documents-4..16"}, set{Name: "documents-32..48"}
	for _, q := range documents {
		if len(q.Documents) < manyMembers {
			few.Questions = append(few.Questions, q)
		} else {
			many.Questions = append(many.Questions, q)
		}
	}
	asked := len(arithmetic) - exampleCount
	sets := []set{few, many, {Name: "arithmetic-few-shot", Questions: arithmetic[:asked], Examples: arithmetic[asked:]}}
	for i := range sets {
		if n := len(sets[i].Questions); most > 0 && most < n {
			sets[i].Questions = sets[i].Questions[:most]
		}
	}
	return sets, nil
}

func readQuestions(path string) ([]question, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("quality: reading questions: %w", err)
	}
	defer file.Close()
	var all []question
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		var q question
		if err := json.Unmarshal(lines.Bytes(), &q); err != nil {
			return nil, fmt.Errorf("quality: reading question %d of %q: %w", len(all)+1, path, err)
		}
		all = append(all, q)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("quality: reading %q: %w", path, err)
	}
	return all, nil
}

// number is what follows the last "####" of an answer.
func number(answer string) string {
	at := strings.LastIndex(answer, "####")
	if at < 0 {
		return ""
	}
	return strings.TrimSpace(answer[at+len("####"):])
}

// prompt is a question as it is asked once.
type prompt struct {
	question int // in the set
	round    int
	parts    []string // head, chunks, question: texts that are tokenized apart
	want     string   // the number
}

// prompts are the set's, with members (documents or examples) in each chunk: all rounds of a question come together, the
// first with its chunks in the file's order. They do not depend on how many questions there are.
func (s *set) prompts(members, rounds int, seed int64, template *chat.Template) ([]prompt, error) {
	var all []prompt
	for i, q := range s.Questions {
		for round := range rounds {
			random := rand.New(rand.NewPCG(uint64(seed), uint64(i)<<16|uint64(round)))
			p := prompt{question: i, round: round, want: number(q.Answer)}
			if s.Examples != nil {
				p.parts = withExamples(q, s.Examples, members, random)
			} else {
				var err error
				if p.parts, err = withDocuments(q, members, template); err != nil {
					return nil, err
				}
				if chunks := p.parts[1 : len(p.parts)-1]; round > 0 {
					random.Shuffle(len(chunks), func(i, k int) { chunks[i], chunks[k] = chunks[k], chunks[i] })
				}
			}
			all = append(all, p)
		}
	}
	return all, nil
}

// withDocuments cuts the templated chat into the text before the documents, chunks of so many documents, and the rest.
func withDocuments(q question, members int, template *chat.Template) ([]string, error) {
	documents := strings.Join(q.Documents, "\n") + "\n"
	text, err := template.Render(chat.New(chat.Turn{Role: "system", Content: "Answer from the documents."}, chat.Turn{Role: "user", Content: documents + q.Question}))
	if err != nil {
		return nil, fmt.Errorf("quality: rendering a question: %w", err)
	}
	head, rest, found := strings.Cut(text, documents)
	if !found || head == "" {
		return nil, errors.New("quality: the model's chat template changes the documents, or puts nothing before them")
	}
	parts := []string{head}
	for group := range slices.Chunk(q.Documents, members) {
		parts = append(parts, strings.Join(group, "\n")+"\n")
	}
	return append(parts, rest), nil
}

// withExamples puts the first example, as the head, and some of the others before a question.
func withExamples(q question, examples []question, members int, random *rand.Rand) []string {
	block := func(e question) string { return "Question: " + e.Question + "\nAnswer: " + e.Answer + "\n\n" }
	parts := []string{block(examples[0])}
	others := examples[1:]
	var drawn []string
	for _, i := range random.Perm(len(others))[:examplesEach] {
		drawn = append(drawn, block(others[i]))
	}
	for group := range slices.Chunk(drawn, members) {
		parts = append(parts, strings.Join(group, ""))
	}
	return append(parts, "Question: "+q.Question+"\nAnswer:")
}
