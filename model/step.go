package model

import "github.com/quire-llm/quire/kernels"

// step runs the operations of a forward pass one after the other until one fails; the rest then does nothing. It owns
// the parameters while an operation reads them, so that passing them through an interface allocates nothing.
type step struct {
	ops       kernels.Ops
	err       error
	rows      int
	tokens    kernels.Buffer
	positions kernels.Buffer
	slots     kernels.Buffer
	work      kernels.Work

	embedParams    kernels.EmbedParams
	normQKVParams  kernels.NormQKVParams
	ropeParams     kernels.QKNormRopeWriteParams
	attendParams   kernels.AttendParams
	projAddParams  kernels.ProjAddParams
	normGateParams kernels.NormGateUpParams
	downParams     kernels.SiluDownAddParams
	mlpParams      kernels.MLPParams
	moeParams      kernels.MoEParams
	headParams     kernels.HeadParams
	sampleParams   kernels.SampleParams
}

func (s *step) embed(p kernels.EmbedParams) {
	if s.embedParams = p; s.err == nil {
		s.err = s.ops.Embed(&s.embedParams)
	}
}

func (s *step) normQKV(p kernels.NormQKVParams) {
	if s.normQKVParams = p; s.err == nil {
		s.err = s.ops.NormQKV(&s.normQKVParams)
	}
}

func (s *step) qkNormRopeWrite(p kernels.QKNormRopeWriteParams) {
	if s.ropeParams = p; s.err == nil {
		s.err = s.ops.QKNormRopeWrite(&s.ropeParams)
	}
}

func (s *step) attend(p kernels.AttendParams) {
	if s.attendParams = p; s.err == nil {
		s.err = s.ops.Attend(&s.attendParams)
	}
}

func (s *step) projAdd(p kernels.ProjAddParams) {
	if s.projAddParams = p; s.err == nil {
		s.err = s.ops.ProjAdd(&s.projAddParams)
	}
}

func (s *step) normGateUp(p kernels.NormGateUpParams) {
	if s.normGateParams = p; s.err == nil {
		s.err = s.ops.NormGateUp(&s.normGateParams)
	}
}

func (s *step) siluDownAdd(p kernels.SiluDownAddParams) {
	if s.downParams = p; s.err == nil {
		s.err = s.ops.SiluDownAdd(&s.downParams)
	}
}

func (s *step) mlp(ops kernels.MLPOps, p kernels.MLPParams) {
	if s.mlpParams = p; s.err == nil {
		s.err = ops.MLP(&s.mlpParams)
	}
}

func (s *step) moe(p kernels.MoEParams) {
	if s.moeParams = p; s.err == nil {
		s.err = s.ops.MoE(&s.moeParams)
	}
}

func (s *step) head(p kernels.HeadParams) {
	if s.headParams = p; s.err == nil {
		s.err = s.ops.Head(&s.headParams)
	}
}

func (s *step) sample(p kernels.SampleParams) {
	if s.sampleParams = p; s.err == nil {
		s.err = s.ops.Sample(&s.sampleParams)
	}
}

func (s *step) write(dst kernels.Buffer, src []byte) {
	if s.err == nil {
		s.err = s.ops.Write(dst.Slice(0, len(src)), src)
	}
}

func (s *step) read(dst []byte, src kernels.Buffer) {
	if s.err == nil {
		s.err = s.ops.Read(dst, src.Slice(0, len(dst)))
	}
}
