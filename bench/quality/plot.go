package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image/color"
	"math"
	"os"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/quire-llm/quire/bench/internal/suite"
)

// figure is a kind of plot, drawn for each model and each set of questions: a line for each size of chunks over the counts
// of tokens that are computed again, and points for the other modes.
type figure struct {
	file, x, y string
	at         func(*scale, *row) plotter.XY
	exact      bool // has a point for exact chunks
	counts     bool // x is the mode, by name
	log        bool // y is a decimal logarithm
}

// leastKL is where a divergence of nearly nothing is drawn.
const leastKL = 1e-7

var figures = []figure{
	{
		file: "quality_accuracy.svg", x: "tokens of each chunk computed again", y: "right answers, %", exact: true, counts: true,
		at: func(s *scale, r *row) plotter.XY { return plotter.XY{X: s.place(r), Y: 100 * r.Accuracy} },
	},
	{
		file: "quality_kl.svg", x: "tokens of each chunk computed again", y: "KL from exact, nats a token", counts: true, log: true,
		at: func(s *scale, r *row) plotter.XY {
			return plotter.XY{X: s.place(r), Y: math.Log10(max(r.KL.Mean, leastKL))}
		},
	},
	{
		file: "quality_tokens.svg", x: "prompt tokens computed, % of those asked", y: "right answers, %", exact: true,
		at: func(_ *scale, r *row) plotter.XY { return plotter.XY{X: 100 * r.computedShare(), Y: 100 * r.Accuracy} },
	},
}

// scale is the axis of modes.
type scale struct{ gaps, again []int }

func (s *scale) place(r *row) float64 {
	switch r.Mode {
	case afterHead:
		return float64(slices.Index(s.gaps, r.HeadGap))
	case exact:
		return float64(len(s.gaps) + len(s.again))
	}
	return float64(len(s.gaps) + slices.Index(s.again, r.RecomputeFirst))
}

func (s *scale) names() []string {
	var names []string
	for _, n := range s.gaps {
		names = append(names, fmt.Sprintf("h+%d", n))
	}
	for _, n := range s.again {
		names = append(names, fmt.Sprint(n))
	}
	return append(names, exact)
}

// colors of the sizes of chunks: Okabe and Ito's, which the colour-blind can tell apart.
var colors = []color.Color{
	color.RGBA{R: 0, G: 114, B: 178, A: 255}, color.RGBA{R: 213, G: 94, B: 0, A: 255}, color.RGBA{R: 0, G: 158, B: 115, A: 255},
	color.RGBA{R: 204, G: 121, B: 167, A: 255}, color.RGBA{R: 230, G: 159, B: 0, A: 255},
}

// writePlots draws all figures into files of their own, beside the results.
func writePlots(out *suite.Output, rows []row) error {
	for _, f := range figures {
		data, err := f.draw(rows)
		if err != nil {
			return fmt.Errorf("quality: drawing %q: %w", f.file, err)
		}
		if _, err := out.WriteFile(f.file, data); err != nil {
			return err
		}
	}
	return nil
}

// draw lays the panels out, a row for each model and a column for each set, and writes them as SVG.
func (f *figure) draw(rows []row) ([]byte, error) {
	models := distinct(rows, func(r *row) string { return r.Model })
	sets := distinct(rows, func(r *row) string { return r.Set })
	sizes := distinct(rows, func(r *row) int { return r.ChunkMembers })
	panels := make([][]*plot.Plot, len(models))
	for i, model := range models {
		for k, set := range sets {
			panel, err := f.panel(model+", "+set, rowsOf(rows, model, set), sizes)
			if err != nil {
				return nil, err
			}
			if f.log {
				f.logarithmic(panel)
			} else {
				f.linear(panel, rows)
			}
			if i == 0 && k == len(sets)-1 { // there is most room
				addLegend(panel, sizes)
			}
			panels[i] = append(panels[i], panel)
		}
	}
	canvas := vgsvg.New(vg.Length(len(sets))*10*vg.Centimeter, vg.Length(len(models))*8*vg.Centimeter)
	tiles := draw.Tiles{Rows: len(models), Cols: len(sets), PadX: 6 * vg.Millimeter, PadY: 6 * vg.Millimeter,
		PadLeft: 2 * vg.Millimeter, PadRight: 4 * vg.Millimeter, PadTop: 2 * vg.Millimeter, PadBottom: 2 * vg.Millimeter}
	for i, line := range plot.Align(panels, tiles, draw.New(canvas)) {
		for k, at := range line {
			panels[i][k].Draw(at)
		}
	}
	var data bytes.Buffer
	_, err := canvas.WriteTo(&data)
	return data.Bytes(), err
}

// linear shows percents from the ten below the least of all rows, so that panels compare.
func (f *figure) linear(p *plot.Plot, rows []row) {
	least := 100.0
	for i := range rows {
		least = min(least, 100*rows[i].Accuracy)
	}
	p.Y.Min, p.Y.Max = 10*math.Floor(least/10), 101
	var ticks plot.ConstantTicks
	for y := p.Y.Min; y <= 100; y += 10 {
		ticks = append(ticks, plot.Tick{Value: y, Label: fmt.Sprintf("%.0f", y)})
	}
	p.Y.Tick.Marker = ticks
}

// logarithmic shows decades from leastKL to 1. The values are logarithms already: with a scale that takes them, gonum/plot
// makes room for the axis's label in the wrong place.
func (f *figure) logarithmic(p *plot.Plot) {
	p.Y.Min, p.Y.Max = math.Log10(leastKL)-0.2, 0
	var ticks plot.ConstantTicks
	for y := math.Log10(leastKL); y <= 0; y++ {
		ticks = append(ticks, plot.Tick{Value: y, Label: fmt.Sprintf("%.0e", math.Pow(10, y))})
	}
	p.Y.Tick.Marker = ticks
}

// panel draws the rows of one model and set.
func (f *figure) panel(title string, rows []row, sizes []int) (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, f.x, f.y
	for _, style := range []*text.Style{&p.Title.TextStyle, &p.X.Label.TextStyle, &p.Y.Label.TextStyle, &p.X.Tick.Label, &p.Y.Tick.Label, &p.Legend.TextStyle} {
		style.Font.Variant, style.Font.Size = "Sans", vg.Points(9)
	}
	p.Title.Padding, p.Y.Label.Padding = vg.Points(4), vg.Points(2)
	p.Add(plotter.NewGrid())
	s := &scale{}
	for i := range rows {
		switch r := &rows[i]; r.Mode {
		case afterHead:
			s.gaps = append(s.gaps, r.HeadGap)
		case alone:
			s.again = append(s.again, r.RecomputeFirst)
		}
	}
	for _, values := range []*[]int{&s.gaps, &s.again} {
		slices.Sort(*values)
		*values = slices.Compact(*values)
	}
	if f.counts {
		p.NominalX(s.names()...)
		p.X.Min, p.X.Max = -0.3, float64(len(s.gaps)+len(s.again))+0.3
	}
	for i, size := range sizes {
		var line, points plotter.XYs
		for k := range rows {
			r := &rows[k]
			switch {
			case r.ChunkMembers != size:
			case r.Mode == alone:
				line = append(line, f.at(s, r))
			case r.Mode != exact || f.exact:
				points = append(points, f.at(s, r))
			}
		}
		if err := addSeries(p, line, points, colors[i%len(colors)]); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// addSeries draws a size of chunks: a line with dots, and triangles for the modes that are not on it. Either may be empty:
// not all sets have all sizes.
func addSeries(p *plot.Plot, line, points plotter.XYs, c color.Color) error {
	if len(line) > 0 {
		l, dots, err := plotter.NewLinePoints(line)
		if err != nil {
			return err
		}
		l.Color, dots.Color, dots.Shape = c, c, draw.CircleGlyph{}
		p.Add(l, dots)
	}
	if len(points) > 0 {
		others, err := plotter.NewScatter(points)
		if err != nil {
			return err
		}
		others.Color, others.Shape, others.Radius = c, draw.PyramidGlyph{}, vg.Points(4)
		p.Add(others)
	}
	return nil
}

// addLegend names the colors and the triangles.
func addLegend(p *plot.Plot, sizes []int) {
	for i, size := range sizes {
		p.Legend.Add(fmt.Sprintf("alone, %d in a chunk", size), &plotter.Line{LineStyle: draw.LineStyle{Color: colors[i%len(colors)], Width: vg.Points(1)}})
	}
	p.Legend.Add("after the head (h + gap), exact", &plotter.Scatter{GlyphStyle: draw.GlyphStyle{Color: color.Black, Shape: draw.PyramidGlyph{}, Radius: vg.Points(4)}})
	p.Legend.YOffs, p.Legend.XOffs = vg.Points(50), vg.Points(-10)
	p.Legend.Padding = vg.Points(3)
}

// distinct are the values of the rows, each once, in their order.
func distinct[T comparable](rows []row, value func(*row) T) []T {
	var all []T
	for i := range rows {
		if v := value(&rows[i]); !slices.Contains(all, v) {
			all = append(all, v)
		}
	}
	return all
}

func rowsOf(rows []row, model, set string) []row {
	var of []row
	for _, r := range rows {
		if r.Model == model && r.Set == set {
			of = append(of, r)
		}
	}
	return of
}

// redraw draws the plots of a results file.
func redraw(path string, out *suite.Output) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("quality: reading results: %w", err)
	}
	var rows []row
	if err := json.Unmarshal(data, &rows); err != nil {
		return fmt.Errorf("quality: reading results in %q: %w", path, err)
	}
	if len(rows) == 0 {
		return fmt.Errorf("quality: no results in %q", path)
	}
	return writePlots(out, rows)
}
