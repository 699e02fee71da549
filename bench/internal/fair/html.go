package fair

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"

	"github.com/quire-llm/quire/bench/internal/suite"
)

//go:embed page.html
var pageText string

// chart is horizontal bars in groups, as an SVG. Lengths are in its own units, which the page scales.
type chart struct {
	Title, Note string
	Height      int
	Groups      []chartGroup
	UnitX       int // where the line of the value 1 is
}

type chartGroup struct {
	Name string
	Y    int
	Bars []chartBar
}

type chartBar struct {
	Label, Value     string
	Class            string // of its colour
	Y, TextY, Width  int
	ValueX           int
	SpreadX, SpreadW int // the range of the repeats; 0 wide where there is none
}

// The geometry of a chart.
const (
	barsX     = 250 // left of it stand the names
	barsWidth = 430
	barHeight = 16
	groupGap  = 30
)

// newChart draws a value of every row; spreadOf may be nil.
func newChart(title, note string, groups [][]row, value func(*row) float64, text func(*row) string, spreadOf func(*row) spread) chart {
	largest := 1.0
	for _, rows := range groups {
		for i := range rows {
			largest = max(largest, value(&rows[i]))
			if spreadOf != nil {
				largest = max(largest, spreadOf(&rows[i]).Max)
			}
		}
	}
	length := func(v float64) int { return int(v / largest * barsWidth) }
	c := chart{Title: title, Note: note, UnitX: barsX + length(1)}
	y := 0
	for _, rows := range groups {
		y += groupGap
		g := chartGroup{Name: rows[0].Workload, Y: y - 8}
		for i := range rows {
			r := &rows[i]
			b := chartBar{Label: r.Method, Value: text(r), Class: colour(r.Method), Y: y, TextY: y + barHeight - 5, Width: max(length(value(r)), 1)}
			right := barsX + b.Width
			if spreadOf != nil {
				s := spreadOf(r)
				b.SpreadX, b.SpreadW = barsX+length(s.Min), max(length(s.Max)-length(s.Min), 1)
				right = max(right, b.SpreadX+b.SpreadW)
			}
			b.ValueX = right + 6
			g.Bars = append(g.Bars, b)
			y += barHeight
		}
		c.Groups = append(c.Groups, g)
	}
	c.Height = y + 8
	return c
}

// colour is the style class of a strategy.
func colour(method string) string {
	for i, s := range strategies() {
		if s.label == method {
			return fmt.Sprintf("s%d", i)
		}
	}
	return "s0"
}

// html is one page that needs nothing from elsewhere.
func (r *report) html() ([]byte, error) {
	page, err := template.New("page").Parse(pageText)
	if err != nil {
		return nil, fmt.Errorf("fair: reading the page's template: %w", err)
	}
	type line struct {
		Cells []string
		Class string
	}
	type table struct {
		Name, About string
		Lines       []line
	}
	groups := r.byWorkload()
	tables := make([]table, len(groups))
	standard := map[string]*row{}
	for g, rows := range groups {
		tables[g] = table{Name: rows[0].Workload, About: rows[0].summary()}
		standard[rows[0].Workload] = &rows[0]
		for i := range rows {
			class := ""
			if rows[i].failed() {
				class = "wrong"
			}
			tables[g].Lines = append(tables[g].Lines, line{rows[i].cells(), class})
		}
	}
	share := func(of func(*row) float64) func(*row) float64 {
		return func(r *row) float64 {
			if base := of(standard[r.Workload]); base > 0 {
				return of(r) / base
			}
			return 0
		}
	}
	ttft := func(r *row) float64 { return r.TimeToFirstToken.P50 }
	itl := func(r *row) float64 { return r.InterTokenLatency.P50 }
	millis := func(of func(*row) float64) func(*row) string {
		return func(r *row) string { return fmt.Sprintf("%.1f ms", 1000*of(r)) }
	}
	charts := []chart{
		newChart("Speed", "Standard's time over the strategy's. The thin line is the range of the repeats; longer is better.", groups,
			func(r *row) float64 { return r.Speedup.Median }, func(r *row) string { return fmt.Sprintf("%.2f ×", r.Speedup.Median) },
			func(r *row) spread { return r.Speedup }),
		newChart("Time to first token", "The median, as a share of standard's; shorter is better.", groups, share(ttft), millis(ttft), nil),
		newChart("Inter-token latency", "The median, as a share of standard's; shorter is better.", groups, share(itl), millis(itl), nil),
		newChart("Tokens computed", "As a share of standard's; shorter is better.", groups,
			share(func(r *row) float64 { return float64(r.TokensComputed) }), func(r *row) string { return fmt.Sprint(r.TokensComputed) }, nil),
		newChart("KV memory at the peak", "Bytes of blocks in use, as a share of standard's; shorter is better.", groups,
			func(r *row) float64 { return r.KVRatio }, func(r *row) string { return suite.FormatSize(r.KVBytesPeak) }, nil),
	}
	var b bytes.Buffer
	err = page.Execute(&b, map[string]any{
		"Machine": r.machine(), "Notes": r.notes, "Charts": charts, "Columns": columns, "Tables": tables, "BarsX": barsX, "BarHeight": barHeight - 3,
	})
	if err != nil {
		return nil, fmt.Errorf("fair: writing the page: %w", err)
	}
	return b.Bytes(), nil
}
